"""Watching real-time windows: which series to poll, how often, and how to assemble windows from the answers."""
