"""Speed, measured as ratios to a peer or a floor in the same interleaved run: `python -m benchmarks`."""
