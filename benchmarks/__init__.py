"""Benchmarks: ratios, measured side by side."""
