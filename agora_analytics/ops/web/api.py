"""The handlers that only read the state: none of them costs a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Literal, Protocol

import attrs
from aiohttp import web

from agora_analytics._core.decoding.json import encode
from agora_analytics._core.dispatcher import in_turns
from agora_analytics._core.extras import install_command
from agora_analytics.ops.fleet.snapshot import JOB_STATES
from agora_analytics.ops.web.board import CallEntry
from agora_analytics.ops.web.documents import AlertsView, CallsView, PageIdentity, SpendingView, status_view
from agora_analytics.ops.web.fleet_view import MAX_JOBS, ORDERS, FleetView, chosen_jobs, fleet_news, shown_workers
from agora_analytics.ops.web.live import Viewers
from agora_analytics.ops.web.readiness import ProbeView, probe
from agora_analytics.ops.web.replies import RefusalError, choice_of, int_of, json_response, raw_response, text_of
from agora_analytics.ops.web.state import LiveState

_MAX_CALLS = 1_000

Order = Literal["newest", "worst"]


class MetricsRenderer(Protocol):
    """Returns the metrics for a scrape: `ops.Collector` does."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that an `Accept` header allows."""


class ReadApi:
    """The state as JSON."""

    def __init__(
        self,
        state: LiveState,
        viewers: Viewers,
        metrics: MetricsRenderer | None,
        identity: PageIdentity,
        *,
        trusts: Callable[[web.Request], bool],
    ) -> None:
        self._state = state
        self._trusts = trusts
        self._viewers = viewers
        self._metrics = metrics
        self._identity = identity
        self._version = version("agora-analytics")

    async def healthz(self, request: web.Request) -> web.Response:
        """Whether the process is alive: 503 only if a restart would help."""
        found = probe(self._state)
        return self._probe(request, found, healthy=found.status != "failed")

    async def readyz(self, request: web.Request) -> web.Response:
        """Whether there is data to show."""
        found = probe(self._state)
        return self._probe(request, found, healthy=found.ready)

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics of the client, for Prometheus."""
        if self._metrics is None:
            return web.Response(status=501, text=f"metrics need prometheus-client: {install_command('ops')}\n")
        body, kind = await self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    async def status(self, _: web.Request) -> web.Response:
        """The server, its streams and its clock."""
        return json_response(status_view(self._state, self._version, self._identity, self._viewers))

    async def series(self, _: web.Request) -> web.Response:
        """The last hour of each series; encoded one by one, as together they would hold the event loop."""
        event, parts = self._state.feed.event_id, []
        for view in self._state.series_views():
            # Before and after: a view and its text take milliseconds each.
            await asyncio.sleep(0)
            parts.append(encode(view))
            await asyncio.sleep(0)
        return raw_response(b'{"event":%s,"window":20,"series":[%s]}' % (encode(event), b",".join(parts)))

    async def calls(self, request: web.Request) -> web.Response:
        """The known calls: newest or worst first, all or those of a channel, of a state, above a freeze rate."""
        query = request.query
        order: Order = "worst" if choice_of(query, "order", ("newest", "worst")) == "worst" else "newest"
        state = choice_of(query, "state", ("all", "open", "finished", "lost"))
        limit = int_of(query, "limit", 100, 1, _MAX_CALLS)
        cname, least = text_of(query, "cname"), int_of(query, "min_users", 0, 0, 10**9) or 0
        found = [
            entry
            for entry in self._state.calls.sorted(order)
            if _matches(entry, cname) and state in {"all", entry.state} and (entry.call.call_pcu or 0) >= least
        ]
        view = CallsView(
            event=self._state.feed.event_id,
            known=len(self._state.calls),
            matching=len(found),
            calls=found[:limit],
            gaps=list(self._state.call_gaps),
        )
        return json_response(view)

    async def quota(self, _: web.Request) -> web.Response:
        """The quota as it was last read, and who spent it."""
        state, quota = self._state, await self._state.monitor.current()
        view = SpendingView(event=state.feed.event_id, quota=quota, since=state.started, hours=state.usage.hours())
        return json_response(view)

    async def fleet(self, request: web.Request) -> web.Response:
        """The workers and jobs of a fleet, as they were last read."""
        monitor, query = self._state.fleet, request.query
        if monitor is None:
            raise RefusalError(404, "fleet", "this server shows no fleet: start it with --fleet FILE")
        steps = chosen_jobs(
            monitor.snapshot,
            text=text_of(query, "text") or "",
            state=choice_of(query, "state", ("all", *JOB_STATES)),
            order=choice_of(query, "order", tuple(ORDERS)),
            limit=int_of(query, "limit", 100, 1, MAX_JOBS) or 1,
        )
        matching, jobs = await in_turns(steps)
        view = FleetView(
            event=self._state.feed.event_id,
            fleet=fleet_news(monitor),
            workers=shown_workers(monitor.snapshot),
            matching=matching,
            jobs=jobs,
        )
        return json_response(view)

    async def alerts(self, _: web.Request) -> web.Response:
        """The alerts, newest first."""
        return json_response(AlertsView(event=self._state.feed.event_id, alerts=list(reversed(self._state.alerts))))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """All changes, as server-sent events."""
        return await self._viewers.serve(request)

    def _probe(self, request: web.Request, found: ProbeView, *, healthy: bool) -> web.Response:
        """Return a probe; without the token only its status, as texts of errors name requests."""
        shown = found if self._trusts(request) else attrs.evolve(found, reasons=(), notes=())
        return json_response(shown, 200 if healthy else 503)


def _matches(entry: CallEntry, cname: str | None) -> bool:
    return cname is None or cname in (entry.call.cname or "")
