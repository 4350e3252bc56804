"""From staged rows to published parts: batches, the writer process, and where parts go."""
