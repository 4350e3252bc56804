"""Quotas: what the plan allows per second, minute and UTC day of the service's own clock, and what is left of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agora_analytics.quota.ledger_state import Book, decode
from agora_analytics.quota.limiter import Budget
from agora_analytics.quota.memory_ledger import MemoryLedger
from agora_analytics.quota.quota import Quota, Reserve, fingerprint
from agora_analytics.quota.wait_queue import Priority

if TYPE_CHECKING:
    from agora_analytics.quota.file_ledger import FileLedger
    from agora_analytics.quota.snapshot import ClockState, Forecast, QuotaSnapshot, QuotaState

__all__ = [
    "Book",
    "Budget",
    "ClockState",
    "FileLedger",
    "Forecast",
    "MemoryLedger",
    "Priority",
    "Quota",
    "QuotaSnapshot",
    "QuotaState",
    "Reserve",
    "decode",
    "fingerprint",
]


_LATER = {"FileLedger": "file_ledger"} | dict.fromkeys(
    ["ClockState", "Forecast", "QuotaSnapshot", "QuotaState"], "snapshot"
)


def __getattr__(name: str) -> Any:
    """Load what not every program needs for those who ask for it."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found
