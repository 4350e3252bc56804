"""Operations: metrics, traces, alerts, a live page, and a check of the account; each needs only its own extra."""

from __future__ import annotations

from agora_analytics._core.lazy import door_of_modules

__all__: list[str] = []

__getattr__, __dir__ = door_of_modules(globals(), {})
