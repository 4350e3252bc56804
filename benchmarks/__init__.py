"""Speed, as ratios to other libraries or to a bound, measured in the same interleaved run: `python -m benchmarks`."""
