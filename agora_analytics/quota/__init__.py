"""Quotas: tokens per second and minute, a ledger per UTC day, and what is left of each."""

from __future__ import annotations

from agora_analytics.quota._memory import MemoryLedger
from agora_analytics.quota._quota import Quota, QuotaState

__all__ = ["MemoryLedger", "Quota", "QuotaState"]
