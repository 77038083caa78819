"""Runs a schedule's file on buffers of the chip's sizes, and compares with ONNX Runtime."""
