"""Quotas: what the plan allows per second, minute and UTC day of the service's own clock, and what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.quota.budget import *
    from agora_analytics.quota.file_ledger import *
    from agora_analytics.quota.ledger_state import *
    from agora_analytics.quota.limiters import *
    from agora_analytics.quota.postgres_ledger import *
    from agora_analytics.quota.priority import *
    from agora_analytics.quota.quota import *
    from agora_analytics.quota.redis_ledger import *
    from agora_analytics.quota.snapshot import *

__all__ = [
    "Budget",
    "ClockState",
    "FileLedger",
    "Forecast",
    "LedgerState",
    "MemoryLedger",
    "PostgresLedger",
    "Priority",
    "Quota",
    "QuotaSnapshot",
    "QuotaState",
    "RedisLedger",
    "Reserve",
    "decode",
    "fingerprint",
]

__getattr__, __dir__ = door(
    globals(),
    "priority",
    "ledger_state",
    "snapshot",
    "budget",
    "limiters",
    "quota",
    "file_ledger",
    "redis_ledger",
    "postgres_ledger",
)
