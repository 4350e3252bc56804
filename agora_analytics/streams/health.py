"""The health of a stream: `Health` for probes, and one log record at each change for the worse or the better."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import attrs

from agora_analytics.errors import AgoraError
from agora_analytics.models import BadRow
from agora_analytics.plans import Endpoint
from agora_analytics.quota.service_time import ServiceTime
from agora_analytics.spans import iso
from agora_analytics.streams.error_policy import ErrorRule, StreamState, rule_for

__all__ = ["Health"]

log = logging.getLogger("agora_analytics.streams")

_LONG_WAIT: Final = 61.0
"""Seconds of waiting for quota that are worth a log record: longer than until the next minute."""


@attrs.frozen(kw_only=True)
class Health:
    """The health of a stream, for a liveness probe or a heartbeat; `str()` sums it up.

    A stream that waits for quota is well if `failures` is 0; otherwise it is in an outage, and waits for the quota of
    its next retry. A stream is stuck if it is `polling` and its `lag` keeps growing; between two polls it grows by
    their interval.

    Attributes:
        state: `polling`; `waiting for quota` (then `until` is when the next request may be sent); `waiting for
            consumer` (the consumer has not asked for the next event for a minute or longer, and nothing is polled
            meanwhile); `outage` or `refused` (requests fail, and are retried; see `last_error`); or `stopped`.
        since: when that state began.
        last_window: the start of the last delivered window, or the time up to which calls were read.
        lag: seconds since the end of that window, or since that time, up to now or to the end of the stream.
        requests_left: requests that the stream can count on for the rest of the day.
        failures: failed polls in a row.
        last_error: the text of the last error; empty once a poll was answered again.
        skipped: rows of answers that were skipped because they do not match the reference, counted each time.
        first_skipped: the first such row, and why it was skipped.
        checkpoint_saved: when the checkpoint was last saved under its name.

    Times are UTC seconds, None before there are any.
    """

    state: StreamState = "polling"
    since: float | None = None
    until: float | None = None
    last_window: int | None = None
    lag: float | None = None
    requests_left: int | None = None
    failures: int = 0
    last_error: str = ""
    skipped: int = 0
    first_skipped: str = ""
    checkpoint_saved: float | None = None

    def __str__(self) -> str:
        """The state, since or until when, and the last error."""
        until = f" until {iso(self.until)}" if self.until is not None else ""
        since = f" since {iso(self.since)}" if self.since is not None and not until else ""
        return f"{self.state}{until or since}" + (f": {self.last_error}" if self.last_error else "")


class HealthMonitor:
    """Keeps the health of a stream, and raises errors that end it."""

    def __init__(self, name: str, time: ServiceTime) -> None:
        self.health = Health()
        self.name = name
        self._time = time
        self._ever_answered = False
        self._warned = self._warned_of_wait = False
        self._entered = self._waiting_since = 0.0
        self._before_wait: tuple[Health, float] | None = None
        self._failing_since: dict[ErrorRule, float] = {}

    def quota_wait_started(self, seconds: float, until: float) -> None:
        """Record that there is no quota for `seconds`, until a time (UTC seconds).

        An outage stays an outage while it waits for the next minute.
        """
        is_long = seconds > _LONG_WAIT
        # A short wait does not hide an outage; a long one does, as nothing is tried meanwhile.
        if self._before_wait is None and (self.health.state == "polling" or is_long):
            self._before_wait, self._waiting_since = (self.health, self._entered), self._time.monotonic()
            self._enter("waiting for quota")
        if self._before_wait is None:
            return
        self.health = attrs.evolve(self.health, until=until)
        if is_long:
            self.health = attrs.evolve(self.health, requests_left=0)
        if is_long and not self._warned_of_wait:
            self._warned_of_wait = True
            log.warning("%s waits for quota until %s", self.name, iso(until))

    def quota_wait_ended(self) -> None:
        """Record that there is quota again."""
        if self._before_wait is None:
            return
        (before, self._entered), self._before_wait = self._before_wait, None
        self.health = attrs.evolve(self.health, state=before.state, since=before.since, until=None)
        if self._warned_of_wait:
            self._warned_of_wait = False
            log.warning(
                "%s resumes after waiting for quota for %.0f s", self.name, self._time.monotonic() - self._waiting_since
            )

    def poll_succeeded(self) -> None:
        """Record that a poll was answered."""
        self._ever_answered = True
        self._failing_since.clear()
        if self.health.failures:
            self.health = attrs.evolve(self.health, failures=0, last_error="")
        if self.health.state != "polling":
            self._recovered()

    def request_accepted(self) -> None:
        """Record that the service accepted a request, so that the credentials are valid whatever else fails."""
        # Until a poll has worked, an error counts from its first time, although other requests were answered.
        if self._ever_answered:
            self._failing_since.clear()

    def poll_failed(self, errors: Sequence[AgoraError], *, answered: bool, certain: bool) -> None:
        """Record that requests of a poll failed, and raise the first error that ends the stream.

        `answered` says whether other requests were answered. Unless the clock is `certain`, some refusals prove
        nothing, because the request may have been for another time.
        """
        now = self._time.monotonic()
        self.health = attrs.evolve(self.health, failures=self.health.failures + 1, last_error=str(errors[0]))
        for error in errors:
            rule = rule_for(error)
            # By rule and not by error: each failure of one kind may have another message.
            lasted = now - self._failing_since.setdefault(rule, now)
            if lasted >= rule.tolerance(worked=self._ever_answered, certain=certain):
                raise error
        # Only now: an error at the first poll is judged as such, although other queries of it were answered.
        self._ever_answered |= answered
        rule = rule_for(errors[0])
        if rule.is_calibration(now - self._failing_since[rule], certain=certain):
            log.info("%s: the clock was wrong, and so was the span of a request: %s", self.name, errors[0])
        else:
            self._enter_failure(rule.state, errors[0])

    def _enter_failure(self, state: StreamState, error: AgoraError) -> None:
        if self.health.state == state:
            log.debug("%s: %s: %s", self.name, state, error)
            return
        self._enter(state)
        self._warned = True
        log.warning("%s: %s, will retry and backfill; the error: %s", self.name, state, error)

    def rows_skipped(self, endpoint: Endpoint, rows: Sequence[BadRow]) -> None:
        """Record rows of an answer that were skipped because they do not match the reference."""
        # The first is kept: it names the cause best, and a list of all would grow without bound.
        first = self.health.first_skipped or f"{endpoint.name}: {rows[0].reason} at {rows[0].path}"
        self.health = attrs.evolve(self.health, skipped=self.health.skipped + len(rows), first_skipped=first)

    def checkpoint_saved(self) -> None:
        """Record that the checkpoint was saved under its name."""
        self.update(checkpoint_saved=self._time.utc())

    def update(self, **fields: Any) -> None:
        """Set fields of the health other than its state."""
        self.health = attrs.evolve(self.health, **fields)

    def stopped(self) -> None:
        """Record the end; may be called twice."""
        if self.health.state != "stopped":
            self._enter("stopped")

    def _enter(self, state: StreamState) -> None:
        self._entered = self._time.monotonic()
        self.health = attrs.evolve(self.health, state=state, since=self._time.utc(), until=None)

    def _recovered(self) -> None:
        if self._warned:
            self._warned = False
            log.warning(
                "%s resumes after %.0f s (%s)", self.name, self._time.monotonic() - self._entered, self.health.state
            )
        self._enter("polling")
