"""A schedule made by hand: two stacks, recomputed overlap, an opaque operator, odd names. No number is searched."""

from __future__ import annotations

from dfc.backend_cost.schedule import (
    SCHEMA,
    Baseline,
    CopyEntry,
    Coverage,
    HardwareInfo,
    LatencySplit,
    LayerEntry,
    MemoryInfo,
    ModelInfo,
    NamedBaseline,
    Schedule,
    StackEntry,
    TensorInfo,
    TileClassEntry,
    TileLayer,
    Totals,
)

MEMORIES = (
    MemoryInfo("rf_w", 8, 64, ("W",)),
    MemoryInfo("rf_o", 16, 512, ("O",)),
    MemoryInfo("lb_w", 262_144, 1, ("W",)),
    MemoryInfo("lb_io", 524_288, 1, ("I", "O")),
    MemoryInfo("dram", 10_000_000_000, 1, ("I", "W", "O")),
)


def layer(
    name: str,
    stack: int,
    *,
    op: str = "conv",
    kind: str = "conv",
    compute_pj: float = 0.0,
    by_memory: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0),
    by_operand: tuple[float, float, float] = (0.0, 0.0, 0.0),
    latency: tuple[int, int, int, int] = (0, 0, 0, 0),
    macs: int = 0,
    dram: tuple[int, int] = (0, 0),
    fused: tuple[str, ...] = (),
) -> LayerEntry:
    """A layer whose sums follow from its parts, on an array of 1024 units."""
    cycles = sum(latency)
    return LayerEntry(
        name=name,
        op=op,
        kind=kind,
        stack=stack,
        energy_pj=compute_pj + sum(by_memory),
        latency_cycles=cycles,
        compute_energy_pj=compute_pj,
        energy_by_memory_pj={m.name: pj for m, pj in zip(MEMORIES, by_memory, strict=True)},
        energy_by_operand_pj=dict(zip("IWO", by_operand, strict=True)),
        latency=LatencySplit(*latency),
        utilisation=macs / cycles / 1024 if cycles else 0.0,
        macs=macs,
        operations=macs,
        dram_read_bits=dram[0],
        dram_write_bits=dram[1],
        weight_bits=0,
        fused=fused,
        origin=(f"Conv:{name}",),
    )


LAYERS = (
    layer(
        "features.0.conv",
        0,
        compute_pj=29_030_400,
        by_memory=(917_728, 29_605_237, 14_094_301, 82_077_321, 45_493_700),
        by_operand=(58_349_938, 15_134_530, 98_703_819),
        latency=(1_638_800, 375_716, 325, 74_097),
        macs=725_760_000,
        dram=(4_159_424, 0),
        fused=("batch_norm", "relu"),
    ),
    layer(
        "a_block_with_a_rather_long_name/branch_2/depthwise",
        0,
        op="depthwise",
        kind="depthwise",
        compute_pj=13_934_592,
        by_memory=(440_509, 7_093_114, 5_919_643, 76_423_854, 58_800),
        by_operand=(73_395_352, 6_418_953, 10_121_615),
        latency=(917_728, 0, 13_398, 0),
        macs=348_364_800,
        dram=(5_376, 66_355_200),
    ),
    layer(
        "mystery",
        1,
        op="NonMaxSuppression",
        kind="opaque",
        by_memory=(0, 0, 0, 1_000, 499_000),
        by_operand=(400_000, 0, 100_000),
        latency=(0, 0, 0, 12_345),
        dram=(66_355_200, 512),
    ),
)


def stack(
    number: int, layers: tuple[LayerEntry, ...], overlap: str, tile: tuple[int, int], base: Baseline | None
) -> StackEntry:
    """A stack of 4 tiles over a map of 960x540, or of one if that is the tile."""
    tiles = 1 if tile == (960, 540) else 4
    copy = CopyEntry("input", "image", 23_048, "dram", "lb_io")
    first = TileLayer(
        layer=layers[0].name,
        extents=tile,
        memories={"O": "lb_io"},
        unrolling=("D1: K 28",),
        loops=("FY 5", "K 2"),
        cuts={"O": (1, 2)},
        copies=(copy,),
        energy_pj=10.0,
        latency_cycles=7,
        copy_energy_pj=4.0,
        copy_cycles=3,
        nest=None,
    )
    return StackEntry(
        layers=tuple(x.name for x in layers),
        overlap=overlap,
        tile=tile,
        map=(960, 540),
        tiles=tiles,
        energy_pj=sum(x.energy_pj for x in layers),
        latency_cycles=sum(x.latency_cycles for x in layers),
        latency=LatencySplit(1, 2, 3, 4),
        energy_by_memory_pj={"dram": 1.0},
        dram_read_bits=sum(x.dram_read_bits for x in layers),
        dram_write_bits=sum(x.dram_write_bits for x in layers),
        weight_bits=17_664 if number == 0 else 0,
        weight_memory="lb_w" if number == 0 else "",
        h_cache_memory="lb_io" if number == 0 else "",
        v_cache_memory="dram" if number == 0 else "",
        layer_by_layer=base,
        tile_classes=(TileClassEntry(tiles, True, 10.0, 7, (first,)),),
    )


def make_schedule() -> Schedule:
    """The schedule; its totals are the sums of its layers."""
    energy = sum(x.energy_pj for x in LAYERS)
    cycles = sum(x.latency_cycles for x in LAYERS)
    macs = sum(x.macs for x in LAYERS)
    opaque = tuple(f"NonMaxSuppression (mystery{i})" for i in range(10))
    return Schedule(
        schema=SCHEMA,
        generator="dfc 0.0.0",
        model=ModelInfo(
            "detector",
            "detector.onnx",
            "0" * 64,
            (TensorInfo("image", (1, 1, 540, 960), 32), TensorInfo("t", (), 32)),
            (),
        ),
        hw=HardwareInfo("toy", "toy.hw", 2e8, 1024, 8, 8, 16, 8, MEMORIES, ""),
        objective="energy",
        cost_model="defines",
        complete=False,
        totals=Totals(
            energy_pj=energy,
            latency_cycles=cycles,
            macs=macs,
            dram_read_bits=sum(x.dram_read_bits for x in LAYERS),
            dram_write_bits=sum(x.dram_write_bits for x in LAYERS),
            network_macs=1_000_000_000,
            compute_energy_pj=sum(x.compute_energy_pj for x in LAYERS),
            mac_energy_pj=sum(x.compute_energy_pj for x in LAYERS),
            copy_energy_pj=10_000_000.0,
            energy_by_memory_pj={m.name: sum(x.energy_by_memory_pj[m.name] for x in LAYERS) for m in MEMORIES},
            energy_by_operand_pj={o: sum(x.energy_by_operand_pj[o] for x in LAYERS) for o in "IWO"},
            latency=LatencySplit(
                sum(x.latency.compute for x in LAYERS),
                sum(x.latency.stall for x in LAYERS),
                sum(x.latency.load for x in LAYERS),
                sum(x.latency.copy for x in LAYERS),
            ),
            utilisation=macs / cycles / 1024,
            time_s=cycles / 2e8,
        ),
        layer_by_layer=Baseline(energy * 4.5, round(cycles * 0.8), 4.5, 0.8),
        coverage=Coverage(12, 2, 1.0, 0.5, opaque),
        stacks=(
            stack(0, LAYERS[:2], "cached", (60, 540), Baseline(1.0, 1, 4.5, 0.8)),
            stack(1, LAYERS[2:], "recompute", (960, 540), None),
        ),
        layers=LAYERS,
        notes=("a note that is longer than the line and so has to be continued on the next line, which is indented",),
        baselines=(
            NamedBaseline("single-layer", energy * 10.0, cycles * 2, 10.0, 2.0),
            NamedBaseline("layer-by-layer", energy * 4.5, round(cycles * 0.8), 4.5, 0.8),
            NamedBaseline("defines", energy * 1.025, round(cycles * 1.5), 1.025, 1.5, (960, 135), "h-cached"),
        ),
    )
