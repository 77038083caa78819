"""Times the cost model of the installed package zigzag-dse; run by cost_model.py with the peer's Python.

python zigzag_evaluation.py PROBLEM.json

The problem names the peer's input files and how many mappings to evaluate. Prints one JSON object: seconds of processor
time per evaluation (median and mean), and how many there were.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from itertools import islice
from pathlib import Path

from zigzag.mapping.temporal_mapping import TemporalMappingType
from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
from zigzag.stages.parser.accelerator_parser import AcceleratorParserStage
from zigzag.stages.parser.workload_parser import WorkloadParserStage
from zigzag.stages.workload_iterator import WorkloadStage

seconds: list[float] = []


class TimedCostModel(CostModelStage):
    """The peer's last stage, which evaluates one mapping: energy and latency together."""

    def run(self):  # type: ignore[no-untyped-def]
        evaluations = super().run()
        start = time.process_time()
        evaluation = next(evaluations)
        seconds.append(time.process_time() - start)
        yield evaluation


def main() -> None:
    problem = json.loads(Path(sys.argv[1]).read_text())
    logging.disable(logging.CRITICAL)
    stages = [
        AcceleratorParserStage,
        WorkloadStage,
        SpatialMappingGeneratorStage,
        TemporalMappingGeneratorStage,
        TimedCostModel,
    ]
    pipeline = WorkloadParserStage(
        stages,
        workload=problem["workload"],
        mapping=problem["mapping"],
        accelerator=problem["accelerator"],
        loma_lpf_limit=problem["factors"],
        loma_show_progress_bar=False,
        nb_mappings_generated=1,
        enable_mix_spatial_mapping_generation=False,
        access_same_data_considered_as_no_access=True,
        temporal_mapping_type=TemporalMappingType("uneven"),
    )
    for _ in islice(pipeline.run(), problem["evaluations"]):
        pass
    print(json.dumps({"median": statistics.median(seconds), "mean": statistics.mean(seconds), "count": len(seconds)}))


if __name__ == "__main__":
    main()
