"""History by push: real-time windows with their own time, to Prometheus' remote write or OTLP."""
