"""Fetching for an export: slices of call lists and series, then the details of each call; with retries and skips."""
