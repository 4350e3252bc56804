"""OpenTelemetry: spans and metrics of a client's requests, by the API alone; needs the extra `otel`."""
