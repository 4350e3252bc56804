"""Quotas: what the plan allows per second, minute and UTC day of the service's own clock, and what is left of it."""

from __future__ import annotations

from agora_analytics.quota._book import Book, decode
from agora_analytics.quota._file import FileLedger
from agora_analytics.quota._group import Budget
from agora_analytics.quota._line import Lane
from agora_analytics.quota._memory import MemoryLedger
from agora_analytics.quota._quota import Quota, Reserve, fingerprint
from agora_analytics.quota._states import ClockState, Forecast, QuotaSnapshot, QuotaState

__all__ = [
    "Book",
    "Budget",
    "ClockState",
    "FileLedger",
    "Forecast",
    "Lane",
    "MemoryLedger",
    "Quota",
    "QuotaSnapshot",
    "QuotaState",
    "Reserve",
    "decode",
    "fingerprint",
]
