"""Properties are tried with the same examples everywhere: a failure that one machine sees, every machine sees."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", derandomize=True, database=None, deadline=None, max_examples=150)
settings.load_profile("same")
