"""The ledgers of `agora_analytics.quota`, with valid arguments and the kind of each; see `argument_kinds.py`."""

from __future__ import annotations

from helpers.argument_kinds import Method

from agora_analytics.quota import PostgresLedger, RedisLedger

LEDGERS = [
    Method("RedisLedger", RedisLedger, {"store": "redis://host"}, {"prefix": "text"}),
    Method(
        "PostgresLedger",
        PostgresLedger,
        {"store": "postgresql://host/database"},
        {"store": "object", "table": "text", "synchronous_commit": "flag"},
    ),
]
