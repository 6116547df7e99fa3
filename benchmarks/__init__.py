"""Measurements of this library; run from a checkout: `python -m benchmarks SUITE --json FILE`."""
