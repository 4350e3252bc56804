"""Rows of responses, with values like those that the service sends."""

from __future__ import annotations

import typing
from random import Random
from typing import Any, Final

import attrs

from agora_analytics._core.decoding import json

_NOW: Final = 1_795_521_600


def paging() -> dict[str, Any]:
    """Return the fields of a page beside its rows."""
    return {"total_size": 431, "page_no": 1, "page_size": 100, "has_more": True, "requestId": "c14975ab521e7fa2"}


def call(random: Random) -> dict[str, Any]:
    """Return a call."""
    begun = _NOW - random.randrange(86_400)
    return {
        "call_id": f"{random.getrandbits(128):032X}",
        "cname": f"room-{random.randrange(1000)}",
        "created_ts": begun,
        "destroyed_ts": begun + random.randrange(7_200),
        "finished": True,
        "call_pcu": random.randrange(1, 40),
        "call_acu": round(random.uniform(1, 20), 2),
        "call_audio_freeze_rate": round(random.random() / 10, 4),
        "call_video_freeze_rate": round(random.random() / 10, 4),
    }


def session(random: Random) -> dict[str, Any]:
    """Return a session."""
    begun = _NOW - random.randrange(86_400)
    return {
        "sid": f"{random.getrandbits(128):032X}",
        "cname": f"room-{random.randrange(1000)}",
        "uid": random.getrandbits(32),
        "account": f"user_{random.randrange(99_999)}",
        "network": random.choice(["WIFI", "4G", "5G"]),
        "platform": random.choice(["iOS", "Android", "Web"]),
        "speaker": True,
        "roles": ["Host"],
        "sdk_version": "4.2.1",
        "device_type": "iPhone14,1",
        "join_ts": begun,
        "leave_ts": begun + random.randrange(7_200),
        "finished": True,
        "user_audio_freeze_rate": round(random.random() / 10, 4),
        "user_video_freeze_rate": round(random.random() / 10, 4),
    }


def metrics(random: Random) -> dict[str, Any]:
    """Return 30 metrics of a session, of 1,800 points each: about a megabyte."""
    return {
        "sid": f"{random.getrandbits(128):032X}",
        "data": [
            {
                "mid": 20_001 + mid,
                "peer_uid": random.getrandbits(32),
                "kvs": [
                    [_NOW + 2 * at, random.choice([random.randrange(900), random.random()])] for at in range(1_800)
                ],
            }
            for mid in range(30)
        ],
    }


def wire_class(kind: Any) -> Any:
    """Return a class with the fields of one of our response models, by the service's names."""
    origin, parameters = typing.get_origin(kind) or kind, typing.get_args(kind)
    fields = {}
    for field in attrs.fields(attrs.resolve_types(origin)):
        generic = getattr(field.type, "__parameters__", ())
        kept = field.type[parameters] if generic else field.type  # type: ignore[index]  # a type at run time
        fields[json.wire_name(field.name)] = attrs.field(type=kept, default=field.default)
    return attrs.make_class(origin.__name__, fields, frozen=True, kw_only=True)
