"""What `/api/v1` answers, as values: docs/reference/http-api.md describes each."""

from __future__ import annotations

from typing import Self

import attrs

from agora_analytics.ops.web.board import CallEntry, CallGap
from agora_analytics.ops.web.budget import ClockView, QuotaView
from agora_analytics.ops.web.feeding import StreamView
from agora_analytics.ops.web.live import Viewers
from agora_analytics.ops.web.readiness import ProbeView, probe
from agora_analytics.ops.web.state import AlertEntry, LiveState
from agora_analytics.ops.web.usage import HourCount
from agora_analytics.streams.watch.schedule import Coverage


@attrs.frozen(kw_only=True)
class CoverageView:
    """How well the plan covers the series, as JSON; see `Coverage`."""

    requests_per_poll: int
    requests_per_day: int
    poll_interval: int
    mean_age: float
    complete: bool
    text: str

    @classmethod
    def of(cls, coverage: Coverage | None) -> Self | None:
        """Return a coverage as JSON."""
        if coverage is None:
            return None
        return cls(
            requests_per_poll=coverage.requests_per_poll,
            requests_per_day=coverage.requests_per_day,
            poll_interval=coverage.poll_interval,
            mean_age=coverage.mean_age,
            complete=coverage.complete,
            text=str(coverage),
        )


@attrs.frozen(kw_only=True)
class PageIdentity:
    """What tells one server from another: a title, and whether its data are simulated."""

    title: str
    simulated: bool


@attrs.frozen(kw_only=True)
class StatusView:
    """`GET /api/v1/status`."""

    event: str
    now: float
    started: int | None
    version: str
    title: str
    simulated: bool
    fleet: str | None
    plan: str
    app: str
    newest_window: int | None
    probe: ProbeView
    streams: tuple[StreamView, ...]
    clock: ClockView | None
    coverage: CoverageView | None
    viewers: int
    missed: int


@attrs.frozen(kw_only=True)
class CallsView:
    """`GET /api/v1/calls`."""

    event: str
    known: int
    matching: int
    calls: list[CallEntry]
    gaps: list[CallGap]


@attrs.frozen(kw_only=True)
class SpendingView:
    """`GET /api/v1/quota`."""

    event: str
    quota: QuotaView | None
    since: int | None
    hours: list[HourCount]


@attrs.frozen(kw_only=True)
class AlertsView:
    """`GET /api/v1/alerts`."""

    event: str
    alerts: list[AlertEntry]


def status_view(state: LiveState, version: str, identity: PageIdentity, viewers: Viewers) -> StatusView:
    """Return the state of the server; the App ID is shortened."""
    return StatusView(
        event=state.feed.event_id,
        now=state.now(),
        started=state.started,
        version=version,
        title=identity.title,
        simulated=identity.simulated,
        fleet=None if state.fleet is None else state.fleet.name,
        plan=state.client.plan.name,
        app=state.app,
        newest_window=state.board.newest(),
        probe=probe(state),
        streams=state.streams,
        clock=state.monitor.clock,
        coverage=CoverageView.of(state.coverage),
        viewers=viewers.count,
        missed=state.feed.missed,
    )
