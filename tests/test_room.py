"""Mappings in what is left of memories: what is known of more room is taken for less only where it is as good."""

from __future__ import annotations

from itertools import product

import pytest
from graph_builder import Builder

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective, TooSmall
from dfc.backend_cost.nest import Borders, make_nest
from dfc.hwdsl import load_arch
from dfc.ir import Role
from dfc.scheduling.room import Fitted, FittedMappings


@pytest.mark.parametrize("objective", list(Objective))
def test_what_fits_less_room_is_as_good_as_if_searched_there(objective: Objective) -> None:
    b = Builder()
    layer = b.graph(b.conv(b.input(8, 12, 12), 8, kernel=(3, 3))).layers[0]
    arch = load_arch("meta_proto_df")
    every = {role: len(path) for role, path in arch.paths.items()}
    nest = make_nest(layer, (1, 8, 12), arch, every, Borders())
    shared = FittedMappings.of(MappingCache(arch, objective, EXACT))
    assert FittedMappings.of(shared.cache) is shared
    lb_w, lb_io = (arch.paths[role][-3] for role in (Role.W, Role.I))
    met: set[str] = set()
    for weights, maps in product((4096, 512), (40_000, 8_000, 7_900, 1_000)):
        room = {lb_w: weights, lb_io: maps}
        alone = FittedMappings(MappingCache(arch, objective, EXACT))
        found, expected = shared.best(nest, room), alone.best(nest, room)
        met.add(type(expected).__name__)
        if isinstance(expected, TooSmall) or isinstance(found, TooSmall):
            assert found == expected
            continue
        assert found.fits(room)
        one, other = (objective.of(f.cost.energy_pj, f.cost.latency_cycles) for f in (found, expected))
        assert one == pytest.approx(other, rel=1e-12)
        met.add("known" if found.sizes != expected.sizes else "searched")
    assert met == {Fitted.__name__, TooSmall.__name__, "known", "searched"}
