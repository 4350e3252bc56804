"""The API over a world: what the vendor's service answers to a request, at the moment its clock shows.

Nothing here waits or knows of sockets. In front stands a gateway, which knows paths and credentials and answers with
real HTTP statuses; behind it the service says everything with HTTP 200 and a `code`.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from hmac import compare_digest
from typing import Any, Final

import attrs
import msgspec

from agora_analytics import plans
from agora_analytics._core import validation
from agora_analytics.plans import WINDOWS, Endpoint, Plan, Unit
from agora_analytics.protocols import Response, WallClock
from agora_analytics.simulator.clocks import Clock
from agora_analytics.simulator.fault_schedule import Faults
from agora_analytics.simulator.faults import Fault
from agora_analytics.simulator.service import (
    call_changes,
    call_inspector,
    call_statistics,
    error_responses,
    insights,
    other_programs,
    realtime,
    settings,
)
from agora_analytics.simulator.service.arrivals import Arrival, Call
from agora_analytics.simulator.service.context import Case, Document
from agora_analytics.simulator.service.date_header import DateHeader
from agora_analytics.simulator.service.error_responses import Refused
from agora_analytics.simulator.service.params import Asked
from agora_analytics.simulator.service.rate_limits import Quotas
from agora_analytics.simulator.service.request_log import Entry, Records
from agora_analytics.simulator.service.variants import DateStyle, Quirks
from agora_analytics.simulator.world.entities import CallChange, SimulatedCall
from agora_analytics.simulator.world.rng import token
from agora_analytics.simulator.world.world import World

CUSTOMER_ID = "simulated-customer"
CUSTOMER_SECRET = "simulated-secret"  # noqa: S105 - opens nothing
APP_ID = "simulated-app-id-0123456789abcdef"

_ANSWERS: Mapping[Endpoint, Callable[[Case], Document]] = {
    plans.CALL_LISTS: call_inspector.lists,
    plans.CALL_SESSIONS: call_inspector.sessions,
    plans.CALL_METRICS: call_inspector.metrics,
    plans.CALL_STATISTICS: call_statistics.by_dimension,
    plans.CALL_FREEZE: call_statistics.freeze_buckets,
    plans.CALL_TIMELINE: call_statistics.by_minute,
    plans.INSIGHT_USAGE: insights.usage_by_time,
    plans.INSIGHT_QUALITY: insights.quality_by_time,
    plans.INSIGHT_USAGE_TOTAL: insights.usage_total,
    plans.INSIGHT_QUALITY_TOTAL: insights.quality_total,
    plans.REALTIME_USAGE: realtime.usage,
    plans.REALTIME_QUALITY: realtime.quality,
    plans.REALTIME_USAGE_TOP: realtime.usage_top,
    plans.REALTIME_QUALITY_TOP: realtime.quality_top,
}
_RULES: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "world": settings.an(World),
    "plan": lambda _, value: Plan.of(value),
    "faults": settings.an(Faults),
    "quirks": settings.an(Quirks),
    "customer_id": validation.non_empty_str,
    "customer_secret": settings.words,
    "app_id": settings.words,
    "other_apps": validation.non_empty_strs,
}
"""What is checked whenever it is assigned."""

_REQUEST_ID_IN_BODY = "/beta/analytics/call/"


def basic(customer_id: str, customer_secret: str) -> str:
    """Return the `Authorization` header of a customer."""
    return "Basic " + b64encode(f"{customer_id}:{customer_secret}".encode()).decode()


@attrs.frozen
class _Verdict:
    """The HTTP status and body of an answer, why it is a refusal (`Entry.refused`), and whether a gateway gave it."""

    status: int
    document: Document
    refused: str = ""
    gateway: bool = False


class Service:
    """A simulated Agora Analytics: a world, a plan, a clock, and counters of what was asked.

    Attributes:
        world, plan, quirks, customer_id, customer_secret, app_id: as given; the world, the plan and the quirks may be
            replaced at any time.
        other_apps: App IDs that the account has too, with the same calls; may be replaced at any time.
        faults: the schedule that transports and servers act out; may be replaced at any time.
        quotas: the counters of frequency limits.

    """

    def __init__(
        self,
        world: World | None = None,
        plan: Plan | str = "enterprise",
        *,
        clock: WallClock | None = None,
        customer_id: str = CUSTOMER_ID,
        customer_secret: str = CUSTOMER_SECRET,
        app_id: str = APP_ID,
        other_apps: Iterable[str] = (),
        faults: Faults | None = None,
        quirks: Quirks | None = None,
        log_size: int = 10_000,
    ) -> None:
        self.world = World() if world is None else world
        self.plan = Plan.of(plan)
        self._clock = Clock.of(clock)
        self.customer_id = customer_id
        self.customer_secret = customer_secret
        self.app_id = app_id
        self.other_apps = other_apps
        self.faults = Faults() if faults is None else faults
        self.quirks = Quirks() if quirks is None else quirks
        self.quotas = Quotas()
        self._authorization = basic(customer_id, customer_secret).encode()
        self._records = Records(settings.count("log_size", log_size))
        self._dates: dict[tuple[int, DateStyle], DateHeader] = {}
        self._arrived: Counter[int | str] = Counter()
        self._number = 0
        self._answered = 0

    def __setattr__(self, name: str, value: object) -> None:
        rule = _RULES.get(name)
        object.__setattr__(self, name, value if rule is None else rule(name, value))
        if name in {"plan", "quirks"} and hasattr(self, "quirks"):
            self._check_others()

    def _check_others(self) -> None:
        for other in self.quirks.others:
            self._known(other.counter)

    def _known(self, counter: str) -> str:
        """Return the name of a counter; raises `ValueError` for one that the plan lacks."""
        if counter not in self.plan.all_counters():
            raise ValueError(
                f"counter={validation.short_repr(counter)}: the plan has"
                f" {', '.join(self.plan.all_counters()) or 'none'}"
            )
        return counter

    @property
    def clock(self) -> Clock:
        """The clock by which requests are counted and answered; assign any function that returns UTC seconds."""
        return self._clock

    @clock.setter
    def clock(self, clock: WallClock) -> None:
        self._clock = Clock.of(clock)

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
        """Return the requests that a counter of the plan holds in the current UTC second, minute or day.

        Those of other programs are among them.
        """
        now = self.clock()
        validation.one_of("unit", unit, WINDOWS)
        validation.one_of("counter", counter, dict.fromkeys(map(self.plan.counter, plans.ENDPOINTS)))
        return self.quotas.spent(counter, unit, now) + self._others(counter, now).get(unit, 0)

    def spend(self, counter: Endpoint | str, requests: int = 1) -> None:
        """Count requests of another program now, from an endpoint's counter or the counter of this name.

        They count in the current second, minute and day alike, whatever is left. Raises `ValueError` for a counter that
        the plan lacks.
        """
        name = self.plan.counter(counter) if isinstance(counter, Endpoint) else counter
        rates = self.plan.rates(self._known(name))
        self.quotas.add(name, rates, self.clock(), settings.count("requests", requests))

    def changes(self, call: SimulatedCall) -> tuple[CallChange, ...]:
        """Return all that befalls a call, whether the quirks name it or chance adds it."""
        return call_changes.of_call(self.world, self.quirks, call)

    def arrive(self, host: int = 0, call: Call | None = None) -> Fault | None:
        """Take note that a request is on its way to a host, and return the fault that hits it, if one does."""
        endpoint = call.endpoint if call else None
        name = endpoint.name if endpoint else ""
        arrival = Arrival(self._number, self._arrived[host], host, self.clock(), self._arrived[name], call)
        self._number += 1
        self._arrived.update((host, name))
        return self.faults.strike(arrival)

    def carry(self, fault: Fault | None, call: Call) -> Response | None:
        """Return what comes back of a request that a fault may have hit; None where nothing does."""
        if fault is None or fault.counted:
            response = self._handle(call, fault)
            return fault.spoil(response) if fault else response
        instead = fault.instead()
        dated = self._date(call.host, self.clock() + call.skew, fault)
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

    def _handle(self, call: Call, fault: Fault | None = None) -> Response:
        """Answer a request and remember it."""
        now = self.clock() + call.skew
        self._answered += 1
        request_id = token("request", self.world.seed, self._answered).lower()
        verdict = self._judge(call, now, fault)
        reached = None if verdict.gateway else call.endpoint
        self._records.add(_entry(call, now, reached, verdict))
        headers = {"Content-Type": "application/json; charset=utf-8", **self._date(call.host, now, fault)}
        if reached and call.path.startswith(_REQUEST_ID_IN_BODY):
            verdict.document["requestId"] = request_id
        else:
            headers["X-Request-ID"] = request_id
        return Response(verdict.status, headers, msgspec.json.encode(verdict.document))

    def _judge(self, call: Call, now: float, fault: Fault | None) -> _Verdict:
        """Tell what the answer is; where it is a refusal, say so."""
        endpoint = call.endpoint
        if endpoint is None:
            return _Verdict(404, {"message": "no Route matched with those values"}, "path", gateway=True)
        if not compare_digest((call.authorization or "").encode(), self._authorization):
            return _Verdict(401, {"message": "Invalid authentication credentials"}, "credentials", gateway=True)
        try:
            return _Verdict(200, {**self._envelope(), **self._document(endpoint, call, now, fault)})
        except Refused as no:
            status = fault.status if fault and no.kind == "fault" else 200
            return _Verdict(status, {"code": no.code, "message": no.message, "data": None}, no.kind)

    def _document(self, endpoint: Endpoint, call: Call, now: float, fault: Fault | None) -> Document:
        """Answer an endpoint; raises `Refused`. Whatever reaches this far is counted."""
        if not self.plan.offers(endpoint):
            raise error_responses.no_access()
        self._charge(self.plan.counter(endpoint), now)
        asked = Asked.of(endpoint, call.query, call.body)
        if fault and fault.kind == "refusal":
            raise Refused(fault.code, fault.message, "fault")
        if asked.app_id not in {self.app_id, *self.other_apps}:
            raise error_responses.wrong_app()
        limits = self.plan.of_endpoint(endpoint)
        return _ANSWERS[endpoint](Case(self.world, self.quirks, limits, now, asked, self._answered))

    def _charge(self, counter: str, now: float) -> None:
        """Count a request; raises `Refused` where it is one too many."""
        others, rates = self._others(counter, now), self.plan.rates(counter)
        self.quotas.refusals_count = self.quirks.refusals_count
        refused = self.quotas.count(counter, rates, now, others)
        if refused:
            raise refused

    def _others(self, counter: str, now: float) -> Mapping[Unit, int]:
        """Return what other programs have spent of a counter by now, by unit."""
        return (
            other_programs.spent_by(self.quirks.others, counter, self.plan.rates(counter), now)
            if self.quirks.others
            else {}
        )

    def _envelope(self) -> Document:
        code = self.quirks.success_code
        return {**({} if code is None else {"code": code}), "message": self.quirks.message}

    def _date(self, host: int, now: float, fault: Fault | None) -> Mapping[str, str]:
        style = self.quirks.date
        header = self._dates.setdefault((host, style), DateHeader(style))
        text = header.at(now + self.quirks.date_ahead, fault.date_off if fault else 0.0)
        return {} if text is None else {"Date": text}


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
