"""Looks at a fleet from outside: for metrics, the live page and probes."""
