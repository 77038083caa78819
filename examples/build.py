"""Writes the example networks as ONNX files: ``python examples/build.py [NAME ...] [--out DIR] [--list]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from networks import NETWORKS

DEFAULT_OUT = Path(__file__).parent / "models"


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the networks named on the command line, all of them if none is; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write example networks as ONNX files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a network (see --list); all of them by default")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="default: examples/models")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown network {unknown[0]!r}; choose from {', '.join(NETWORKS)}")
    if options.list:
        for name in options.names or NETWORKS:
            print(f"{name:22}{NETWORKS[name].about}")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or NETWORKS:
        path = options.out / f"{name}.onnx"
        content = NETWORKS[name].build().SerializeToString(deterministic=True)
        path.write_bytes(content)
        print(f"{path}  {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
