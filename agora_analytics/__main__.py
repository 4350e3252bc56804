"""`python -m agora_analytics` is the command `agora-analytics`."""

from __future__ import annotations

from agora_analytics.cli import run

run()
