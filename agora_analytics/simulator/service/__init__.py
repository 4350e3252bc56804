"""The API over a simulated world: parameters, endpoints, error responses and rate limits."""
