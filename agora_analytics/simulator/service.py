"""The API over a world: what the vendor's service answers to a request, at the moment its clock shows.

Nothing here waits or knows of sockets. In front stands a gateway, which knows paths and credentials and answers with
real HTTP statuses; behind it the service says everything with HTTP 200 and a `code`.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Mapping
from hmac import compare_digest

import attrs
import msgspec

from agora_analytics import plans
from agora_analytics.plans import ENDPOINTS, Endpoint, Plan, Unit
from agora_analytics.protocols import Response, WallClock
from agora_analytics.simulator import insights, inspector, realtime, refusals, statistics
from agora_analytics.simulator.asked import Asked
from agora_analytics.simulator.case import Case, Document
from agora_analytics.simulator.chance import token
from agora_analytics.simulator.dates import DateHeader
from agora_analytics.simulator.faults import Arrival, Fault, Faults
from agora_analytics.simulator.quirks import Quirks
from agora_analytics.simulator.quotas import Quotas
from agora_analytics.simulator.records import Entry, Records
from agora_analytics.simulator.refusals import Refused
from agora_analytics.simulator.world import World

CUSTOMER_ID = "simulated-customer"
CUSTOMER_SECRET = "simulated-secret"  # noqa: S105 - opens nothing
APP_ID = "simulated-app-id-0123456789abcdef"

_BY_PATH: Mapping[tuple[str, str], Endpoint] = {(endpoint.method, endpoint.path): endpoint for endpoint in ENDPOINTS}
_ANSWERS: Mapping[Endpoint, Callable[[Case], Document]] = {
    plans.CALL_LISTS: inspector.lists,
    plans.CALL_SESSIONS: inspector.sessions,
    plans.CALL_METRICS: inspector.metrics,
    plans.CALL_STATISTICS: statistics.by_dimension,
    plans.CALL_FREEZE: statistics.freeze_buckets,
    plans.CALL_TIMELINE: statistics.by_minute,
    plans.INSIGHT_USAGE: insights.usage_by_time,
    plans.INSIGHT_QUALITY: insights.quality_by_time,
    plans.INSIGHT_USAGE_TOTAL: insights.usage_total,
    plans.INSIGHT_QUALITY_TOTAL: insights.quality_total,
    plans.REALTIME_USAGE: realtime.usage,
    plans.REALTIME_QUALITY: realtime.quality,
    plans.REALTIME_USAGE_TOP: realtime.usage_top,
    plans.REALTIME_QUALITY_TOP: realtime.quality_top,
}
_REQUEST_ID_IN_BODY = "/beta/analytics/call/"


def basic(customer_id: str, customer_secret: str) -> str:
    """Return the `Authorization` header of a customer."""
    return "Basic " + b64encode(f"{customer_id}:{customer_secret}".encode()).decode()


@attrs.frozen
class Call:
    """A request as it arrives at one of the hosts, whose clock is `skew` seconds ahead of the service's."""

    method: str
    path: str
    query: str
    body: bytes | None = None
    authorization: str | None = None
    host: int = 0
    skew: float = 0.0


@attrs.frozen
class _Verdict:
    """The HTTP status and body of an answer, and why it is a refusal (`Entry.refused`) or nothing."""

    status: int
    document: Document
    refused: str = ""


class Service:
    """A simulated Agora Analytics: a world, a plan, a clock, and counters of what was asked.

    Attributes:
        world, plan, quirks, clock, customer_id, customer_secret, app_id: as given; the world, the plan and the quirks
            may be replaced at any time.
        faults: the schedule that transports and servers act out; may be replaced at any time.
        quotas: the counters of frequency limits.

    """

    def __init__(
        self,
        world: World | None = None,
        plan: Plan | str = "enterprise",
        *,
        clock: WallClock = time.time,
        customer_id: str = CUSTOMER_ID,
        customer_secret: str = CUSTOMER_SECRET,
        app_id: str = APP_ID,
        faults: Faults | None = None,
        quirks: Quirks | None = None,
        log_size: int = 10_000,
    ) -> None:
        self.world = world or World()
        self.plan = Plan.of(plan)
        self.clock = clock
        self.customer_id = customer_id
        self.customer_secret = customer_secret
        self.app_id = app_id
        self.faults = faults or Faults()
        self.quirks = quirks or Quirks()
        self.quotas = Quotas(refusals_count=self.quirks.refusals_count)
        self._authorization = basic(customer_id, customer_secret).encode()
        self._records = Records(log_size)
        self._dates: dict[int, DateHeader] = {}
        self._arrived: Counter[int] = Counter()
        self._answered = 0

    @property
    def counts(self) -> Mapping[str, int]:
        """Requests that reached each endpoint, by the endpoint's name, refused ones among them."""
        return self._records.counts

    @property
    def refusals(self) -> Mapping[str, int]:
        """Refused requests by kind; see `Entry.refused`."""
        return self._records.refusals

    @property
    def log(self) -> deque[Entry]:
        """The latest requests, oldest first."""
        return self._records.log

    def spent(self, counter: str, unit: Unit) -> int:
        """Return the requests that a counter of the plan holds in the current UTC second, minute or day."""
        return self.quotas.spent(counter, unit, self.clock())

    def arrive(self, host: int = 0) -> Fault | None:
        """Take note that a request is on its way to a host, and return the fault that hits it, if one does."""
        arrival = Arrival(self._arrived.total(), self._arrived[host], host, self.clock())
        self._arrived[host] += 1
        return self.faults.strike(arrival)

    def carry(self, fault: Fault | None, call: Call) -> Response | None:
        """Return what comes back of a request that a fault may have hit; None where nothing does."""
        if fault is None or fault.counted:
            response = self._handle(call)
            return fault.spoil(response) if fault else response
        instead = fault.instead()
        dated = self._date(call.host, self.clock() + call.skew)
        return instead and attrs.evolve(instead, headers={**instead.headers, **dated})

    def answer(
        self,
        method: str,
        path: str,
        query: str,
        body: bytes | None,
        authorization: str | None,
        *,
        host: int = 0,
        skew: float = 0.0,
    ) -> Response:
        """Answer a request: its method, path, encoded query, body and `Authorization` header.

        `host` is which of the hosts is asked, `skew` how many seconds its clock is ahead.
        """
        return self._handle(Call(method, path, query, body, authorization, host, skew))

    def _handle(self, call: Call) -> Response:
        """Answer a request and remember it."""
        now = self.clock() + call.skew
        endpoint = _BY_PATH.get((call.method, call.path))
        self._answered += 1
        request_id = token("request", self.world.seed, self._answered).lower()
        verdict = self._judge(endpoint, call, now)
        reached = endpoint if verdict.status == 200 else None  # noqa: PLR2004 - HTTP's own number
        self._records.add(_entry(call, now, reached, verdict))
        headers = {"Content-Type": "application/json; charset=utf-8", **self._date(call.host, now)}
        if reached and call.path.startswith(_REQUEST_ID_IN_BODY):
            verdict.document["requestId"] = request_id
        else:
            headers["X-Request-ID"] = request_id
        return Response(verdict.status, headers, msgspec.json.encode(verdict.document))

    def _judge(self, endpoint: Endpoint | None, call: Call, now: float) -> _Verdict:
        """Tell what the answer is; where it is a refusal, say so."""
        if endpoint is None:
            return _Verdict(404, {"message": "no Route matched with those values"}, "path")
        if not compare_digest((call.authorization or "").encode(), self._authorization):
            return _Verdict(401, {"message": "Invalid authentication credentials"}, "credentials")
        try:
            return _Verdict(200, {**self._envelope(), **self._document(endpoint, call, now)})
        except Refused as no:
            return _Verdict(200, {"code": no.code, "message": no.message, "data": None}, no.kind)

    def _document(self, endpoint: Endpoint, call: Call, now: float) -> Document:
        """Answer an endpoint; raises `Refused`. Whatever reaches this far is counted."""
        if not self.plan.offers(endpoint):
            raise refusals.no_access()
        counter = self.plan.counter(endpoint)
        refused = self.quotas.count(counter, self.plan.rates(counter), now)
        if refused:
            raise refused
        asked = Asked.of(endpoint, call.query, call.body)
        if asked.app_id != self.app_id:
            raise refusals.wrong_app()
        limits = self.plan.of_endpoint(endpoint)
        return _ANSWERS[endpoint](Case(self.world, self.quirks, limits, int(now), asked))

    def _envelope(self) -> Document:
        code = self.quirks.success_code
        return {**({} if code is None else {"code": code}), "message": self.quirks.message}

    def _date(self, host: int, now: float) -> Mapping[str, str]:
        header = self._dates.setdefault(host, DateHeader(self.quirks.date)).at(now + self.quirks.date_ahead)
        return {} if header is None else {"Date": header}


def _entry(call: Call, now: float, endpoint: Endpoint | None, verdict: _Verdict) -> Entry:
    code = verdict.document.get("code")
    return Entry(
        at=now,
        host=call.host,
        endpoint=endpoint.name if endpoint else "",
        method=call.method,
        path=call.path,
        query=call.query,
        body=call.body,
        status=verdict.status,
        code=code if isinstance(code, int) else None,
        refused=verdict.refused,
    )
