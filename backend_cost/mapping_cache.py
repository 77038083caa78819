"""Best mappings by nest: known in this run, known to a store from an earlier one, or searched now."""

from __future__ import annotations

from functools import cached_property

from dfc.backend_cost.cost_model import EXACT, CostModel
from dfc.backend_cost.mapping_cost import MappingCost, Objective, TooSmall
from dfc.backend_cost.mapping_key import ProblemKeys
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.mapping_store import MappingStore
from dfc.backend_cost.nest import Nest
from dfc.hwdsl.arch import Arch


class MappingCache:
    """Best mappings by nest: an identical problem is solved once in a run, and with a store once on a machine."""

    def __init__(self, arch: Arch, objective: Objective, model: CostModel = EXACT, store: MappingStore | None = None):
        self.arch = arch
        self.objective = objective
        self.model = model
        self.store = store
        self.recalled = 0  # how many came from the store
        #: what is worked out from the mappings, by the class of which there is one for each cache
        self.notes: dict[type, object] = {}
        self._known: dict[tuple[Nest, LayerRules | None], MappingCost | TooSmall] = {}

    @cached_property
    def _keys(self) -> ProblemKeys:  # reads every source of the model: not without need
        return ProblemKeys(self.arch, self.objective, self.model)

    @property
    def searches(self) -> int:
        """How many different nests were asked for."""
        return len(self._known)

    @property
    def solved(self) -> int:
        """How many of them were mapped in this run."""
        return len(self._known) - self.recalled

    def best(self, nest: Nest, rules: LayerRules | None = None) -> MappingCost | TooSmall:
        """The nest's best mapping that keeps to the rules, or what is too small for any."""
        key = (nest, rules)
        found = self._known.get(key)
        if found is None:
            found = self.solve(*key) if self.store is None else self._recall(*key, self.store)
            self._known[key] = found
        return found

    def _recall(self, nest: Nest, rules: LayerRules | None, store: MappingStore) -> MappingCost | TooSmall:
        names = tuple(memory.name for memory in self.arch.memories)  # rules name memories, keys leave names out
        key = self._keys.key(nest, "" if rules is None else repr((rules, names)))
        found = store.get(key)
        if found is not None:
            self.recalled += 1
            return found
        found = self.solve(nest, rules)
        store.put(key, found)
        return found

    def solve(self, nest: Nest, rules: LayerRules | None) -> MappingCost | TooSmall:
        """The answer to a problem that is not known yet; another search of mappings replaces this."""
        return search_mapping(nest, self.arch, self.objective, self.model, rules=rules)


class SharedMappings:
    """The mapping caches of a run: one per chip and objective, whoever asks, so no nest is mapped twice."""

    def __init__(self, store: MappingStore | None = None):
        self.store = store
        self._known: list[MappingCache] = []

    def of(self, arch: Arch, objective: Objective) -> MappingCache:
        """The cache for a chip and an objective, by the exact model."""
        for one in self._known:
            if one.objective is objective and one.arch == arch:
                return one
        self._known.append(MappingCache(arch, objective, EXACT, self.store))
        return self._known[-1]
