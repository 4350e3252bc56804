"""`python -m agora_analytics.cli` is the program `agora-analytics`."""

from __future__ import annotations

from agora_analytics.cli import run

run()
