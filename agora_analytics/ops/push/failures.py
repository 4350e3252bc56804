"""Whether a receiver has taken a request; if not, why, and whether the same request may be sent again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Final

import attrs

from agora_analytics._core.decoding.json import one_line
from agora_analytics.ops.push import otlp, remote_write
from agora_analytics.ops.push.receiver import Reply

log = logging.getLogger("agora_analytics.ops")

_SUCCESSES: Final = range(200, 300)
_INVALID: Final = frozenset({400, 413, 422})
"""Statuses that are about the values. Others, such as 401 or 404, are about settings, which may be mended."""

_PAGE: Final = "text/html"
_PROTOBUF: Final = "application/x-protobuf"
_QUOTED: Final = 200


@attrs.frozen(kw_only=True)
class Failure:
    """Why a request was not taken. Never both: `retried`, it may be sent again; `refused`, its values will never do."""

    text: str
    status: int | None = None
    retried: bool = False
    refused: bool = False
    retry_after: float = 0.0


def failure_of(reply: Reply, protocol: ModuleType, scrub: Callable[[str], str]) -> Failure | None:
    """Return why a request was not taken, None if it was; `scrub` removes secrets from what a receiver says."""
    status = reply.status
    if status is None:
        return Failure(text=reply.failure, retried=not reply.final)
    if status in _SUCCESSES:
        return _doubt(reply, status) or (_partial(reply, status, scrub) if protocol is otlp else None)
    # OTLP answers an error in Protocol Buffers, remote write in plain text.
    message = otlp.message(reply.body) if reply.content_type == _PROTOBUF else reply.body.decode(errors="replace")
    # Before 2.43 Prometheus says 500 for a sample that is too old, which would be sent again for ever.
    refused = status in _INVALID or (protocol is remote_write and remote_write.TOO_OLD in message)
    return Failure(
        text=f"HTTP {status}: {one_line(scrub(message), _QUOTED)}",
        status=status,
        retried=status in protocol.RETRIED and not refused,
        refused=refused,
        retry_after=reply.retry_after,
    )


def _doubt(reply: Reply, status: int) -> Failure | None:
    """Return a failure for an answer that no receiver gives: a proxy's login page also has the status 200."""
    if reply.content_type == _PAGE and b"<" in reply.body:
        return Failure(text=f"HTTP {status} with a web page, so this is no receiver", status=status)
    if reply.too_large:
        return Failure(text=f"HTTP {status} with a longer answer than any receiver's", status=status)
    return None


def _partial(reply: Reply, status: int, scrub: Callable[[str], str]) -> Failure | None:
    """Return a failure if a part of the points was rejected; log what a receiver says that took them all."""
    number, message = otlp.rejected(reply.body)
    message = one_line(scrub(message), _QUOTED)
    if number:
        text = f"{number} points were rejected: {message or 'no reason given'}"
        return Failure(text=text, status=status, refused=True)
    if message:
        log.warning("the receiver accepted a window and says: %s", message)
    return None
