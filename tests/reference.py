"""Reads the recorded evaluations of the reference model into our own types. Shares no formula with dfc."""

from __future__ import annotations

import gzip
import json
import os
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.nest import Nest, NestOperand, Unrolled, Work
from dfc.hwdsl import Arch, ArrayDim, Memory, Move, OperationalArray, Port
from dfc.ir import Axis, Dim, Role, sizes

DATA = Path(__file__).parent / "data"
MOVES = {
    "rd_out_to_low": Move.READ_DOWN,
    "wr_in_by_low": Move.WRITE_UP,
    "rd_out_to_high": Move.READ_UP,
    "wr_in_by_high": Move.WRITE_DOWN,
}
ROLES = {"I1": Role.I, "I2": Role.W, "O": Role.O}
Json = dict[str, Any]


def load(name: str, variable: str) -> Any:
    """Recorded data: the file that ships, or the one that an environment variable names."""
    path = Path(os.environ.get(variable, DATA / name))
    with gzip.open(path, "rt") as file:
        return json.load(file)


def arch_of(recorded: Json) -> Arch:
    """A recorded accelerator, pruned as it was for one layer."""
    order = recorded["mem_instance_list_order"]
    levels = {m["name"]: m for m in recorded["memory_levels"]}
    array = recorded["operational_array"]
    dims = tuple(ArrayDim(n, s) for n, s in array["dimensions"].items())
    return Arch(
        name=recorded["name"],
        array=OperationalArray(dims, array["unit_energy"], array["unit_energy"], 8, 8, 16, 8),
        memories=tuple(_memory(levels[name]) for name in order),
        paths={
            ROLES[op]: tuple(order.index(n) for n in path) for op, path in recorded["hierarchy_per_mem_operand"].items()
        },
        unrolls={},
    )


def _memory(m: Json) -> Memory:
    served = {(ROLES[op], MOVES[d]): i for i, p in enumerate(m["ports"]) for op, _, d in p["served_op_lv_dir"]}
    return Memory(
        name=m["name"],
        roles=tuple(ROLES[o] for o in m["operands"]),
        size_bits=m["size_bit"],
        read_bits_per_cycle=m["r_bw_bit_per_cycle"],
        write_bits_per_cycle=m["w_bw_bit_per_cycle"],
        read_pj=m["r_cost_per_word_of_r_bw"],
        write_pj=m["w_cost_per_word_of_w_bw"],
        min_read_bits=m["min_r_granularity_bit"],
        min_write_bits=m["min_w_granularity_bit"],
        across=tuple(m["served_dimensions"]),
        instances=m["unroll_count"],
        ports=tuple(Port(p["name"], p["attr"]) for p in m["ports"]),
        port_of=served,
    )


def nest_of(case: Json, arch: Arch) -> tuple[Nest, list[str]]:
    """A recorded layer, and the names of its operands in order."""
    layer = case["layer"]
    strides, dilations = [1, 1, 1], [1, 1, 1]
    for axis, name in ((Axis.Y, "y"), (Axis.X, "x")):
        factors = layer["pr_scaling_factors"].get(f"I{name.upper()}", {})
        strides[axis], dilations[axis] = factors.get(f"o{name}", 1), factors.get(f"f{name}", 1)
    operands: list[NestOperand] = []
    for name in layer["operand_list"]:
        relevancy = layer["operand_relevancy"][name]
        dims = [*relevancy["r"], *(d for pair in relevancy["pr"].values() for d in pair)]
        windows = tuple(Axis.X if key == "IX" else Axis.Y for key in relevancy["pr"])
        role = ROLES[layer["memory_operand_links"][name]]
        bits = layer["operand_precision_bits"]
        final, partial = (bits["O_final"], bits["O"]) if name == "O" else (bits[name], bits[name])
        found = NestOperand(role, tuple(sorted(Dim[d] for d in dims)), windows, final, partial, arch.paths[role])
        operands.append(found)
    unrolled: list[Unrolled] = []
    limit = {d.name: d.size for d in arch.array.dims}
    for array_dim, (loop, size) in layer["user_spatial_mapping"].items():
        whole = layer["loop_dim_size"].get(loop, 1)
        if whole > 1:
            share = whole / ceil(whole / min(limit[array_dim], size, whole))
            unrolled.append(Unrolled(array_dim, Dim[loop], ceil(share), share))
    loops = sizes(**layer["loop_dim_size"])
    nest = Nest(loops, _triple(strides), _triple(dilations), tuple(operands), tuple(unrolled), Work.MAC)
    return nest, layer["operand_list"]


def _triple(values: list[int]) -> tuple[int, int, int]:
    return values[0], values[1], values[2]


def batch_of(names: list[str], temporal: Json) -> tuple[np.ndarray, Batch]:
    """A recorded temporal mapping as points and a batch of one."""
    loops = [(Dim[d], s) for level in temporal[names[0]] for d, s in level]
    points = np.ones((len(loops) + 1, len(Dim)))
    for i, (dim, size) in enumerate(loops):
        points[i + 1] = points[i]
        points[i + 1, dim] *= size
    cuts = tuple(np.array([np.cumsum([len(level) for level in temporal[n]])]) for n in names)
    dims = np.array([[d for d, _ in loops]], dtype=np.int64).reshape(1, -1)
    return points, Batch(dims, np.arange(len(points))[None, :], cuts)
