"""Checkpoint stores and sinks of `agora_analytics.streams`, with valid arguments and the kind of each."""

from __future__ import annotations

from helpers.argument_kinds import Method

from agora_analytics.streams import ObjectCheckpoints, PostgresCheckpoints, PostgresSink, RedisCheckpoints

REDIS, POSTGRES = "redis://host", "postgresql://host/database"
SPACED = {"every": "number", "lease": "number"}

STORES = [
    Method("RedisCheckpoints", RedisCheckpoints, {"store": REDIS}, {"prefix": "text", **SPACED}),
    Method("ObjectCheckpoints", ObjectCheckpoints, {"store": "s3://bucket"}, {"every": "number"}),
    Method(
        "PostgresCheckpoints", PostgresCheckpoints, {"store": POSTGRES}, {"store": "object", "table": "text", **SPACED}
    ),
    Method(
        "PostgresSink",
        PostgresSink,
        {"store": POSTGRES, "name": "prod"},
        {"store": "object", "name": "checkpoint", "prefix": "text", "lease": "number"},
    ),
]
