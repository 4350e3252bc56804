"""Time: half-open spans of whole UTC seconds, and how to split them into what one request may span."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

import attrs

from agora_analytics._core import validation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Span"]

Instant = datetime | int
"""A moment: an aware `datetime`, or whole seconds since 1970 in UTC, of any class of whole numbers."""

MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400
"""Seconds in each."""

WINDOW: Final = 20
"""Seconds in a real-time window; windows begin on multiples of it."""

# The year 5138 in seconds, 1973 in milliseconds: a larger number can only be milliseconds.
_MILLISECONDS: Final = 100_000_000_000


def seconds(moment: Instant, name: str = "time") -> int:
    """Return the whole UTC seconds of a moment, rounded down.

    Raises `TypeError` or `ValueError`, naming the argument `name`, for a naive datetime, a float, a text, a negative
    number or milliseconds.
    """
    if type(moment) is int and 0 <= moment < _MILLISECONDS:
        return moment  # nearly always
    found = _second_of(moment, name) if isinstance(moment, datetime) else validation.as_int(moment)
    if found is None:
        # A float is a `ValueError`, not a `TypeError`: it is what time.time() returns.
        error = ValueError if isinstance(moment, float) else TypeError
        raise error(
            f"{name}={validation.short_repr(moment)}: allowed are an aware datetime or whole seconds since 1970 as an"
            " int"
        )
    if not 0 <= found < _MILLISECONDS:
        hint = "milliseconds? divide by 1000" if found > 0 else "before 1970"
        msg = f"{name}={validation.short_repr(found)} is not a time in seconds ({hint})"
        raise ValueError(msg)
    return found


def _second_of(moment: datetime, name: str) -> int:
    try:
        known = moment.utcoffset() is not None
        found = int(moment.timestamp() // 1)
    except (ValueError, OverflowError):  # pandas' "not a time" is a datetime too
        msg = f"{name}={validation.short_repr(moment)} is not a time"
        raise ValueError(msg) from None
    if not known:
        msg = f"{name}={validation.short_repr(moment)} is naive: give it a time zone, for example datetime.now(UTC)"
        raise ValueError(msg)
    return found


def length(duration: timedelta | int, name: str = "duration") -> int:
    """Return the whole seconds of a positive duration; raises `TypeError` or `ValueError` naming the argument."""
    found = int(duration.total_seconds()) if isinstance(duration, timedelta) else validation.as_int(duration)
    if found is None:
        msg = f"{name}={validation.short_repr(duration)}: allowed are a timedelta or whole seconds as an int"
        raise TypeError(msg)
    if not 0 < found < _MILLISECONDS:
        least = "it must be at least one second" if found <= 0 else "it is longer than any time in seconds"
        msg = f"{name}={validation.short_repr(duration)}: {least}"
        raise ValueError(msg)
    return found


def moment(ts: float | None) -> datetime | None:
    """Return the service's seconds as an aware UTC datetime.

    None for null and 0, which mean "not yet", and for numbers out of range.
    """
    return datetime.fromtimestamp(ts, UTC) if ts and 0 < ts < _MILLISECONDS - 1 else None


def is_moment(ts: float | None) -> bool:
    """Whether seconds are in range, so that `moment` returns a datetime."""
    return ts is not None and 0 < ts < _MILLISECONDS - 1


def iso(ts: float) -> str:
    """Return UTC seconds as text, such as `2026-11-24T12:00:00Z`; a number that is no moment as it is."""
    found = moment(ts)
    return f"{found:%Y-%m-%dT%H:%M:%SZ}" if found else str(ts)


class HostSecond(int):
    """A second by the host's clock, from before the service's was known; requests shift it once that is known."""


@attrs.frozen
class Span:
    """Half-open `[start, end)` in whole UTC seconds; it unpacks into the two: `search(*span)`.

    >>> span = Span(1_795_521_600, 1_795_528_800)
    >>> print(span, span.duration)
    2026-11-24T12:00:00Z..2026-11-24T14:00:00Z 7200
    >>> [part.duration for part in span.slices(3_000)]
    [3000, 3000, 1200]
    >>> datetime(2026, 11, 24, 13, tzinfo=UTC) in span
    True

    Raises `ValueError` unless `0 <= start < end`, both in seconds.
    """

    start: int = attrs.field()
    end: int = attrs.field()

    def __attrs_post_init__(self) -> None:
        for name in ("start", "end"):
            value: object = getattr(self, name)
            found = seconds(value, name)  # type: ignore[arg-type]  # which is what is checked
            if isinstance(value, datetime):
                msg = f"{name}={validation.short_repr(value)}: a Span holds whole seconds, Span.of takes datetimes"
                raise TypeError(msg)
            # A `HostSecond` stays one: it is what marks the span as by the host's clock.
            if found is not value and not isinstance(value, HostSecond):
                object.__setattr__(self, name, found)  # of another class of whole numbers
        if self.start >= self.end:
            msg = f"end={self.end} must be after start={self.start}"
            raise ValueError(msg)

    @classmethod
    def of(cls, start: Instant, end: Instant) -> Self:
        """Return the span between two moments; raises `ValueError` or `TypeError` naming `start` or `end`."""
        return cls(seconds(start, "start"), seconds(end, "end"))

    def __iter__(self) -> Iterator[int]:
        """Yield start and end."""
        return iter((self.start, self.end))

    def __contains__(self, moment: Instant) -> bool:
        """Whether a moment is in the span; the end is not."""
        return self.start <= seconds(moment) < self.end

    def __str__(self) -> str:
        """Both ends in ISO 8601."""
        return f"{self.started_at:%Y-%m-%dT%H:%M:%SZ}..{self.ended_at:%Y-%m-%dT%H:%M:%SZ}"

    @property
    def duration(self) -> int:
        """Length in seconds, at least 1."""
        return self.end - self.start

    @property
    def started_at(self) -> datetime:
        """First moment, aware, UTC."""
        return datetime.fromtimestamp(self.start, UTC)

    @property
    def ended_at(self) -> datetime:
        """First moment after it, aware, UTC."""
        return datetime.fromtimestamp(self.end, UTC)

    def slices(self, longest: int, mark: int = 1) -> tuple[Span, ...]:
        """Split into the fewest spans of at most `longest` seconds, oldest first; they tile this one exactly.

        Cuts are on multiples of `mark`, unless `longest` is shorter than that. Raises `ValueError` for a `longest`
        below 1.
        """
        return tuple(
            sliced(self, validation.int_in_range("longest", longest, 1), validation.int_in_range("mark", mark, 1))
        )

    def overlapping(self, longest: int, bucket: int) -> tuple[Span, ...]:
        """Split into spans of at most `longest` seconds so that each `bucket` of seconds is whole in one of them.

        Oldest first. Each starts on a multiple of `bucket` (the first: where this span starts) and overlaps the next,
        so a bucket is whole in the *last* slice that contains its start, whatever time of day the service's buckets
        start at. Where a slice cannot hold two buckets, the spans tile as in `slices`.
        """
        longest, bucket = (
            validation.int_in_range("longest", longest, 1),
            validation.int_in_range("bucket", bucket, 1, _MILLISECONDS),
        )
        # The last bucket that starts before a cut starts a second before it, and ends within the slice.
        advance = longest + 1 - bucket
        if advance < bucket:
            return self.slices(longest)
        cut = [self.start]
        while self.end - cut[-1] > longest:
            # Rounded down, so the overlap gets longer, and no bucket is lost.
            cut.append((cut[-1] + advance) // bucket * bucket)
        return tuple(Span(start, min(start + longest, self.end)) for start in cut)

    def windows(self) -> Span | None:
        """Align to 20-second windows as the service does: the window of the start is in, that of the end is not.

        None if no window is left.
        """
        start, end = self.start // WINDOW * WINDOW, self.end // WINDOW * WINDOW
        return Span(start, end) if start < end else None


def sliced(span: Span, longest: int, mark: int = 1) -> Iterator[Span]:
    """Yield the spans of `Span.slices` one by one: there may be millions of them."""
    at = span.start
    while span.end - at > longest:
        full = at + longest
        # Otherwise the cut would not be after `at`.
        cut = full // mark * mark if longest >= mark else full
        yield Span(at, cut)
        at = cut
    yield Span(at, span.end)


def by_host(span: Span) -> Span:
    """Mark a span as by the host's clock; requests shift it once the service's clock is known."""
    return Span(HostSecond(span.start), HostSecond(span.end))


def is_by_host(start: Instant | None, end: Instant | None) -> bool:
    """Whether a span is by the host's clock."""
    return isinstance(start, HostSecond) and isinstance(end, HostSecond)


def ends_by_host(start: Instant | None, end: Instant | None) -> bool:
    """Whether only the end of a span is by the host's clock: the newest queryable second."""
    return isinstance(end, HostSecond) and not isinstance(start, HostSecond)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the union: the fewest spans that cover the same time, in order."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: one.start):
        # `<=`: spans that only touch are one, as they are half-open.
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def without(span: Span, *others: Span) -> tuple[Span, ...]:
    """Return the difference: what is left of a span without the others, in order."""
    left: list[Span] = []
    start = span.start
    for other in merged(others):
        if start < min(other.start, span.end):
            left.append(Span(start, min(other.start, span.end)))
        start = max(start, other.end)
    if start < span.end:
        left.append(Span(start, span.end))
    return tuple(left)
