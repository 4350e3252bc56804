"""Checkpoint stores and sinks of `agora_analytics.streams`, with valid arguments and the kind of each."""

from __future__ import annotations

from helpers.argument_kinds import Method

from agora_analytics import Checkpoint, FileCheckpoints, MemoryCheckpoints
from agora_analytics.streams import ObjectCheckpoints, PostgresCheckpoints, PostgresSink, RedisCheckpoints

REDIS, POSTGRES = "redis://host", "postgresql://host/database"
SPACED = {"every": "number", "lease": "number"}

STORES = [
    Method("FileCheckpoints", FileCheckpoints, {"folder": "checkpoints"}, {"folder": "path", "every": "number"}),
    Method("MemoryCheckpoints", MemoryCheckpoints, {}, {"every": "number"}),
    *(
        Method(f"MemoryCheckpoints.{name}", getattr(MemoryCheckpoints(), name), {}, {"name": "checkpoint"})
        for name in ("load", "acquire")
    ),
    Method(
        "MemoryCheckpoints.release",
        MemoryCheckpoints().release,
        {"name": "n", "epoch": 1},
        {"name": "checkpoint", "epoch": "count"},
    ),
    Method(
        "MemoryCheckpoints.save",
        MemoryCheckpoints().save,
        {"name": "n", "checkpoint": Checkpoint(stream="s"), "epoch": 1},
        {"name": "checkpoint", "checkpoint": "object", "epoch": "count"},
    ),
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
