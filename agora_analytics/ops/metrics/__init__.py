"""Prometheus metrics of a client, its streams and its exports."""
