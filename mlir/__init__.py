"""Schedules, graphs and networks as MLIR, out and in."""
