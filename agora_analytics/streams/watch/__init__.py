"""Real-time windows: which series to poll, how often, and how windows are assembled from the answers."""
