"""Maps a network with the installed package zigzag-dse; run by mapping_search.py with the peer's Python.

python zigzag_network.py

ResNet-18 at 224x224 and the accelerator meta_prototype, both as they come with the package, layer by layer for least
energy, with the settings of the package's own interface. Prints one JSON object: seconds of processor time without
imports, mappings evaluated, median seconds of one evaluation, and of each layer seconds, pJ, cycles and its mapping.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from pathlib import Path
from typing import Any

import zigzag
from zigzag.mapping.temporal_mapping import TemporalMappingType
from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
from zigzag.stages.parser.accelerator_parser import AcceleratorParserStage
from zigzag.stages.parser.onnx_model_parser import ONNXModelParserStage
from zigzag.stages.results.reduce_stages import MinimalEnergyStage
from zigzag.stages.workload_iterator import WorkloadStage
from zigzag_evaluation import TimedCostModel, seconds


def mapped(evaluation: Any) -> dict[str, object]:
    """The lanes by loop dimension, and per operand the temporal loops of each memory from the array outwards."""
    spatial = evaluation.spatial_mapping_int.mapping_dict_origin
    lanes = {str(dim): float(size) for operand in spatial for level in spatial[operand] for dim, size in level}
    temporal = {
        str(operand): [[(str(dim), float(size)) for dim, size in level] for level in levels]
        for operand, levels in evaluation.temporal_mapping.mapping_dic_stationary.items()
    }
    return {"lanes": {dim: size for dim, size in lanes.items() if size > 1}, "temporal": temporal}


def main() -> None:
    inputs = Path(zigzag.__file__).parent / "inputs"
    logging.disable(logging.CRITICAL)
    stages = [
        AcceleratorParserStage,
        WorkloadStage,
        MinimalEnergyStage,
        SpatialMappingGeneratorStage,
        MinimalEnergyStage,
        TemporalMappingGeneratorStage,
        TimedCostModel,
    ]
    begin = start = time.process_time()
    pipeline = ONNXModelParserStage(
        stages,
        workload=str(inputs / "workload" / "resnet18.onnx"),
        mapping=str(inputs / "mapping" / "meta_prototype_like.yaml"),
        accelerator=str(inputs / "hardware" / "meta_prototype.yaml"),
        loma_lpf_limit=6,
        loma_show_progress_bar=False,
        nb_mappings_generated=3,
        enable_mix_spatial_mapping_generation=False,
        access_same_data_considered_as_no_access=True,
        temporal_mapping_type=TemporalMappingType("uneven"),
    )
    layers: list[dict[str, object]] = []
    for best, _ in pipeline.run():
        now = time.process_time()
        found = {"energy_pj": float(best.energy_total), "cycles": float(best.latency_total2)}
        sizes = {str(dim): int(size) for dim, size in best.layer.layer_dim_sizes.items()}
        layers.append({"name": best.layer.name, "seconds": now - start, "sizes": sizes, **found, **mapped(best)})
        start = now
    everything = time.process_time() - begin
    said = {"seconds": everything, "evaluations": len(seconds), "median": statistics.median(seconds), "layers": layers}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
