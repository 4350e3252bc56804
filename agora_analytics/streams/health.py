"""How a stream is doing: for probes by `Health`, for people by one log record at each turn for worse or better."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from agora_analytics.errors import AgoraError
from agora_analytics.models import BadRow
from agora_analytics.plans import Endpoint
from agora_analytics.quota.quota import Quota
from agora_analytics.streams.error_policy import ErrorRule, StreamState, rule_for

__all__ = ["Health"]

log = logging.getLogger("agora_analytics.streams")

_LONG: Final = 61.0
"""Seconds of waiting for quota that are worth a log record: not the next minute's, but the next day's."""


@attrs.frozen(kw_only=True)
class Health:
    """How a stream is doing, for a liveness probe; `str()` says it in a few words.

    `state` is `polling`; `waiting for quota` (`until` then is when the next request may go); `waiting for consumer`
    (nobody has come for the next event for a minute or longer, and nothing is asked meanwhile); `outage` or `refused`
    (requests fail, `last_error` says how, and the stream goes on trying); or `stopped`. `since` is when that began.
    A stream that waits for quota is well if `failures` is 0: in an outage, it waits for the quota of further tries. One
    is stuck if it is `polling` and `lag` goes on growing; between two polls it grows by their interval.

    `last_window` is the start of the last window, or the moment up to which calls were read; `lag` how many seconds ago
    that ended, counted up to the stream's own end; `requests_left` what it can count on for the rest of the day;
    `failures` how many polls in a row failed; `last_error` the last one's text, empty once it was answered again;
    `skipped` how many rows of answers were left out since they do not fit the reference, each whenever it comes, and
    `first_skipped` which was the first, and why. Times are UTC seconds, None before there are any.
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

    def __str__(self) -> str:
        """The state, since or until when, and the last error."""
        until = f" until {_moment(self.until)}" if self.until is not None else ""
        since = f" since {_moment(self.since)}" if self.since is not None and not until else ""
        return f"{self.state}{until or since}" + (f": {self.last_error}" if self.last_error else "")


class HealthMonitor:
    """Keeps a stream's health, and decides by the policy which failure ends it."""

    def __init__(self, name: str, quota: Quota) -> None:
        self.health = Health()
        self.name = name
        self._quota = quota
        self._ever_answered = False
        self._warned = self._warned_of_wait = False
        self._entered = self._waiting_since = 0.0
        self._before_wait: tuple[Health, float] | None = None
        self._failing_since: dict[ErrorRule, float] = {}

    def quota_wait_started(self, seconds: float, until: float) -> None:
        """Note that there is no quota for so long, until a moment (UTC seconds).

        An outage stays one while it waits for the next minute: that is no other trouble.
        """
        if self._before_wait is None and (self.health.state == "polling" or seconds > _LONG):
            self._before_wait, self._waiting_since = (self.health, self._entered), self._quota.now()
            self._enter("waiting for quota")
        if self._before_wait is None:
            return
        self.health = attrs.evolve(self.health, until=until)
        if seconds > _LONG:
            self.health = attrs.evolve(self.health, requests_left=0)
        if seconds > _LONG and not self._warned_of_wait:
            self._warned_of_wait = True
            log.warning("%s waits for quota until %s", self.name, _moment(until))

    def quota_wait_ended(self) -> None:
        """Note that it waits for quota no more."""
        if self._before_wait is None:
            return
        (before, self._entered), self._before_wait = self._before_wait, None
        self.health = attrs.evolve(self.health, state=before.state, since=before.since, until=None)
        if self._warned_of_wait:
            self._warned_of_wait = False
            log.warning(
                "%s goes on after waiting for quota for %.0f s", self.name, self._quota.now() - self._waiting_since
            )

    def poll_succeeded(self) -> None:
        """Note that a poll was answered."""
        self._ever_answered = True
        self._failing_since.clear()
        if self.health.failures:
            self.health = attrs.evolve(self.health, failures=0, last_error="")
        if self.health.state != "polling":
            self._recovered()

    def request_accepted(self) -> None:
        """Note that the service accepted a request, whatever else goes wrong: credentials are not refused for good."""
        if self._ever_answered:
            self._failing_since.clear()

    def poll_failed(self, errors: Sequence[AgoraError], *, answered: bool, certain: bool) -> None:
        """Note that requests of a poll failed, and raise the first error that ends the stream.

        `answered` tells that others were answered. Without a `certain` clock some refusals prove nothing: what was
        asked may have been for another time.
        """
        now = self._quota.now()
        self.health = attrs.evolve(self.health, failures=self.health.failures + 1, last_error=str(errors[0]))
        for error in errors:
            rule = rule_for(error)
            if now - self._failing_since.setdefault(rule, now) >= rule.tolerance(
                worked=self._ever_answered, certain=certain
            ):
                raise error
        self._ever_answered |= answered
        rule = rule_for(errors[0])
        if rule.is_calibration(now - self._failing_since[rule], certain=certain):
            log.info("%s: asked by a clock that was wrong: %s", self.name, errors[0])
        else:
            self._enter_failure(rule.state, errors[0])

    def _enter_failure(self, state: StreamState, error: AgoraError) -> None:
        if self.health.state == state:
            log.debug("%s: %s: %s", self.name, state, error)
            return
        self._enter(state)
        self._warned = True
        log.warning("%s: %s, which it sits out; the error: %s", self.name, state, error)

    def rows_skipped(self, endpoint: Endpoint, rows: Sequence[BadRow]) -> None:
        """Note rows of an answer that were left out since they do not fit."""
        first = self.health.first_skipped or f"{endpoint.name}: {rows[0].reason} at {rows[0].path}"
        self.health = attrs.evolve(self.health, skipped=self.health.skipped + len(rows), first_skipped=first)

    def update(self, **facts: Any) -> None:
        """Note facts of the health that are no state."""
        self.health = attrs.evolve(self.health, **facts)

    def stopped(self) -> None:
        """Note the end; may be called twice."""
        if self.health.state != "stopped":
            self._enter("stopped")

    def _enter(self, state: StreamState) -> None:
        self._entered = self._quota.now()
        self.health = attrs.evolve(self.health, state=state, since=self._quota.utc(), until=None)

    def _recovered(self) -> None:
        if self._warned:
            self._warned = False
            log.warning(
                "%s goes on after %.0f s of %s", self.name, self._quota.now() - self._entered, self.health.state
            )
        self._enter("polling")


def _moment(ts: float | None) -> str:
    return "" if ts is None else f"{datetime.fromtimestamp(ts, UTC):%Y-%m-%dT%H:%M:%SZ}"
