"""The time at which virtual time starts."""

from __future__ import annotations

NOON = 1_795_521_600
"""24 November 2026, 12:00 UTC."""
