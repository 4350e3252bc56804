"""Times as people type them: `--last 3h`, or `--start` and `--end` with a zone."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta

from agora_analytics.cli.formatting import lasting
from agora_analytics.plans import Endpoint, Plan, is_cut
from agora_analytics.spans import WINDOW, Span, seconds

log = logging.getLogger("agora_analytics.cli")

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration(text: str, option: str = "--last") -> int:
    """Return the seconds of a text like `45s`, `20m`, `3h`, `2d` or `1h30m`."""
    if not re.fullmatch(r"(?:\d+[smhd])+", text):
        raise ValueError(f"{option}={text!r}: allowed are durations like 45s, 20m, 3h, 2d or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def instant(text: str, option: str) -> int:
    """Return the UTC seconds of a text: ISO 8601 with a zone or `Z`, or whole seconds since 1970."""
    if text.isdecimal():
        return seconds(int(text), option)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{option}={text!r}: allowed are ISO 8601 like 2026-11-24T12:00:00Z, or seconds since 1970"
        ) from None
    if moment.utcoffset() is None:
        with_zone = moment.isoformat() + "Z"
        raise ValueError(f"{option}={text!r} has no time zone: write {with_zone}, or an offset like +01:00 for the Z")
    return seconds(moment, option)


def latest(text: str, kept: int, else_at: str = "") -> int:
    """Return the seconds of `--last`, at most as many as the plan keeps; that they are cut is told."""
    wanted = duration(text)
    if wanted > kept:
        log.warning("--last=%s is more than the plan keeps: it begins %s ago%s", text, lasting(kept), else_at)
    return min(wanted, kept)


def tell_cut(text: str, kept: int, span: Span) -> None:
    """Tell where a span is shorter than its `--last`: the plan keeps less, or not so much of it can be asked for."""
    if latest(text, kept) == duration(text) and is_cut(duration(text), span):
        log.warning("--last=%s is more than can be asked for: it is the newest %s", text, lasting(span.duration))


def beginning(start: str | None, last: str | None, kept: int) -> int | timedelta | None:
    """Return where a stream begins: at `--start`, or so long ago by the service's clock (`--last`).

    What a moment in the past loses is told by the stream, as a gap.
    """
    if start:
        return instant(start, "--start")
    return timedelta(seconds=latest(last, kept, ", or where its checkpoint is")) if last else None


def newest_window(plan: Plan, endpoint: Endpoint, now: int) -> int:
    """Return the start of the newest 20-second window that is whole and can be asked."""
    return plan.of_endpoint(endpoint).askable(now).end // WINDOW * WINDOW - WINDOW
