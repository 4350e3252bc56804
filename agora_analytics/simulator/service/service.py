"""The simulated service: answers requests from a world, at the time of its clock.

Nothing here waits or uses sockets. As at Agora, a gateway in front checks path and credentials and answers errors with
an HTTP status; the service behind it answers everything with HTTP 200 and a `code` in the body.
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
from agora_analytics.simulator import validators
from agora_analytics.simulator.clocks import Clock
from agora_analytics.simulator.fault_schedule import Arrival, Faults
from agora_analytics.simulator.faults import Fault
from agora_analytics.simulator.service import (
    call_changes,
    call_inspector,
    call_statistics,
    error_responses,
    insights,
    other_programs,
    realtime,
)
from agora_analytics.simulator.service.context import Document, RequestContext
from agora_analytics.simulator.service.date_header import DateHeader
from agora_analytics.simulator.service.error_responses import ErrorResponse
from agora_analytics.simulator.service.params import IncomingRequest, RequestParams
from agora_analytics.simulator.service.rate_limits import RateLimits
from agora_analytics.simulator.service.request_log import LogEntry, RequestLog
from agora_analytics.simulator.service.variants import DateStyle, Variants
from agora_analytics.simulator.world.entities import CallChange, SimulatedCall
from agora_analytics.simulator.world.rng import token
from agora_analytics.simulator.world.world import World

CUSTOMER_ID = "simulated-customer"
"""Customer ID that a simulated service accepts."""
CUSTOMER_SECRET = "simulated-secret"  # noqa: S105 - no real secret
"""Customer Secret that goes with it; `Service.customer_secret` replaces it."""
APP_ID = "simulated-app-id-0123456789abcdef"
"""App ID of its one project."""

_HANDLERS: Mapping[Endpoint, Callable[[RequestContext], Document]] = {
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
_VALIDATORS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "world": validators.instance_of(World),
    "plan": lambda _, value: Plan.of(value),
    "faults": validators.instance_of(Faults),
    "variants": validators.instance_of(Variants),
    "customer_id": validation.non_empty_str,
    "customer_secret": validators.string,
    "app_id": validators.string,
    "other_apps": validation.non_empty_strs,
}
"""Attributes that are validated on every assignment."""

_REQUEST_ID_IN_BODY = "/beta/analytics/call/"


def basic_auth(customer_id: str, customer_secret: str) -> str:
    """Return the value of the `Authorization` header (HTTP Basic)."""
    return "Basic " + b64encode(f"{customer_id}:{customer_secret}".encode()).decode()


@attrs.frozen
class _Answer:
    """HTTP status and body, the reason of a refusal (`LogEntry.refused`), and whether the gateway answered."""

    status: int
    document: Document
    refused: str = ""
    gateway: bool = False


class Service:
    """A simulated Agora Analytics service: a world, a plan, a clock and rate limits.

    Use it through a `Simulation`, or put it on a port with `server.serve`.

    ```python
    from agora_analytics.simulator import Service, World

    service = Service(World(seed=7), "premium", clock=lambda: 1_795_521_600)
    service.spend("realtime", 480)  # another program uses up a part of the quota
    assert service.spent("realtime", "day") == 480
    ```

    Attributes:
        world, plan, variants, faults: as passed; each may be replaced at any time.
        customer_id, customer_secret, app_id: the credentials and the App ID that the service accepts; each may be
            replaced at any time.
        other_apps: further App IDs of the account, with the same calls; may be replaced at any time.
        rate_limits: the counters of requests.

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
        variants: Variants | None = None,
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
        self.variants = Variants() if variants is None else variants
        self.rate_limits = RateLimits()
        self._request_log = RequestLog(validators.non_negative("log_size", log_size))
        self._dates: dict[tuple[int, DateStyle], DateHeader] = {}
        self._arrivals: Counter[int | str] = Counter()
        self._arrival_number = 0
        self._answered = 0

    def __setattr__(self, name: str, value: object) -> None:
        validator = _VALIDATORS.get(name)
        object.__setattr__(self, name, value if validator is None else validator(name, value))
        if name in {"plan", "variants"} and hasattr(self, "variants"):
            self._check_other_programs()

    # A counter that the plan lacks would spend nothing, and the test would not notice.
    def _check_other_programs(self) -> None:
        for program in self.variants.others:
            self._known_counter(program.counter)

    def _known_counter(self, counter: str) -> str:
        """Return the name of a counter; raises `ValueError` if the plan has no such counter."""
        if counter not in self.plan.all_counters():
            known = ", ".join(self.plan.all_counters()) or "none"
            raise ValueError(f"counter={validation.short_repr(counter)}: the plan has {known}")
        return counter

    @property
    def clock(self) -> Clock:
        """The clock of rate limits and answers; assign a `Clock` or any function that returns UTC seconds."""
        return self._clock

    @clock.setter
    def clock(self, clock: WallClock) -> None:
        self._clock = Clock.of(clock)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of requests that reached each endpoint, by the endpoint's name, refused ones included."""
        return self._request_log.counts

    @property
    def refusals(self) -> Mapping[str, int]:
        """Number of refused requests by reason; see `LogEntry.refused`."""
        return self._request_log.refusals

    @property
    def log(self) -> deque[LogEntry]:
        """The latest requests, oldest first, at most `log_size`."""
        return self._request_log.log

    def spent(self, counter: str, unit: Unit) -> int:
        """Return the requests counted in the current UTC second, minute or day, those of other programs included."""
        now = self.clock()
        validation.one_of("unit", unit, WINDOWS)
        validation.one_of("counter", counter, dict.fromkeys(map(self.plan.counter, plans.ENDPOINTS)))
        return self.rate_limits.spent(counter, unit, now) + self._spent_by_others(counter, now).get(unit, 0)

    def spend(self, counter: Endpoint | str, requests: int = 1) -> None:
        """Use up quota: count requests of another program now, in an endpoint's counter or the counter of this name.

        They count in the current second, minute and day, even above the limits. Raises `ValueError` if the plan has no
        such counter.
        """
        name = self.plan.counter(counter) if isinstance(counter, Endpoint) else counter
        rates = self.plan.rates(self._known_counter(name))
        self.rate_limits.add(name, rates, self.clock(), validators.non_negative("requests", requests))

    def changes(self, call: SimulatedCall) -> tuple[CallChange, ...]:
        """Return all changes of a call, those named in `variants.changes` and random ones."""
        return call_changes.changes_of(self.world, self.variants, call)

    def receive(self, host: int = 0, request: IncomingRequest | None = None) -> Fault | None:
        """Record that a host received a request, and return the fault to inject into it, or None."""
        endpoint = request.endpoint if request else None
        name = endpoint.name if endpoint else ""
        arrival = Arrival(self._arrival_number, self._arrivals[host], host, self.clock(), self._arrivals[name], request)
        self._arrival_number += 1
        self._arrivals.update((host, name))
        return self.faults.strike(arrival)

    def respond(self, fault: Fault | None, request: IncomingRequest) -> Response | None:
        """Return the response to a request with the fault injected that `receive` returned; None if none comes back."""
        if fault is None or fault.counted:
            response = self._handle(request, fault)
            return fault.corrupted(response) if fault else response
        from_gateway = fault.gateway_response()
        date = self._date(request.host, self.clock() + request.skew, fault)
        return from_gateway and attrs.evolve(from_gateway, headers={**from_gateway.headers, **date})

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
        """Answer a request given by method, path, encoded query, body and `Authorization` header, without faults.

        `host` is the index of the host that receives it, `skew` the seconds by which that host's clock is ahead.
        """
        return self._handle(IncomingRequest(method, path, query, body, authorization, host, skew))

    def _handle(self, request: IncomingRequest, fault: Fault | None = None) -> Response:
        """Answer a request and log it."""
        # Each host counts and dates by its own clock.
        now = self.clock() + request.skew
        self._answered += 1
        request_id = token("request", self.world.seed, self._answered).lower()
        answer = self._answer(request, now, fault)
        reached = None if answer.gateway else request.endpoint
        self._request_log.add(_log_entry(request, now, reached, answer))
        headers = {"Content-Type": "application/json; charset=utf-8", **self._date(request.host, now, fault)}
        # By the API reference, only these endpoints have it in the body.
        if reached and request.path.startswith(_REQUEST_ID_IN_BODY):
            answer.document["requestId"] = request_id
        else:
            headers["X-Request-ID"] = request_id
        return Response(answer.status, headers, msgspec.json.encode(answer.document))

    def _answer(self, request: IncomingRequest, now: float, fault: Fault | None) -> _Answer:
        """Return the answer, be it of the gateway, a document or an error."""
        endpoint = request.endpoint
        if endpoint is None:
            return _Answer(404, {"message": "no Route matched with those values"}, "path", gateway=True)
        # Computed each time, since the credentials may be replaced at any time, as when a customer rotates them.
        expected = basic_auth(self.customer_id, self.customer_secret)
        if not compare_digest((request.authorization or "").encode(), expected.encode()):
            return _Answer(401, {"message": "Invalid authentication credentials"}, "credentials", gateway=True)
        try:
            return _Answer(200, {**self._envelope(), **self._document(endpoint, request, now, fault)})
        except ErrorResponse as error:
            status = fault.status if fault and error.kind == "fault" else 200
            return _Answer(status, {"code": error.code, "message": error.message, "data": None}, error.kind)

    def _document(self, endpoint: Endpoint, request: IncomingRequest, now: float, fault: Fault | None) -> Document:
        """Call the handler of an endpoint; raises `ErrorResponse`. Counts every request that the plan allows."""
        if not self.plan.offers(endpoint):
            raise error_responses.no_access()
        # Before the parameters are checked: whether Agora counts wrong requests is unknown, and this is what costs a
        # client more.
        self._charge(self.plan.counter(endpoint), now)
        params = RequestParams.of(endpoint, request.query, request.body)
        if fault and fault.kind == "refusal":
            raise ErrorResponse(fault.code, fault.message, "fault")
        if params.app_id not in {self.app_id, *self.other_apps}:
            raise error_responses.wrong_app()
        limits = self.plan.of_endpoint(endpoint)
        return _HANDLERS[endpoint](RequestContext(self.world, self.variants, limits, now, params, self._answered))

    def _charge(self, counter: str, now: float) -> None:
        """Count a request; raises `ErrorResponse` if it exceeds a rate limit."""
        others, rates = self._spent_by_others(counter, now), self.plan.rates(counter)
        # Set before each count, because the variants may be replaced at any time.
        self.rate_limits.refusals_count = self.variants.refusals_count
        error = self.rate_limits.count(counter, rates, now, others)
        if error:
            raise error

    def _spent_by_others(self, counter: str, now: float) -> Mapping[Unit, int]:
        """Return the requests of other programs in the current windows of a counter, by unit."""
        return (
            other_programs.spent_by(self.variants.others, counter, self.plan.rates(counter), now)
            if self.variants.others
            else {}
        )

    def _envelope(self) -> Document:
        code = self.variants.success_code
        return {**({} if code is None else {"code": code}), "message": self.variants.message}

    def _date(self, host: int, now: float, fault: Fault | None) -> Mapping[str, str]:
        style = self.variants.date
        header = self._dates.setdefault((host, style), DateHeader(style))
        text = header.at(now + self.variants.date_ahead, fault.date_off if fault else 0.0)
        return {} if text is None else {"Date": text}


def _log_entry(request: IncomingRequest, now: float, endpoint: Endpoint | None, answer: _Answer) -> LogEntry:
    code = answer.document.get("code")
    return LogEntry(
        at=now,
        host=request.host,
        endpoint=endpoint.name if endpoint else "",
        method=request.method,
        path=request.path,
        query=request.query,
        body=request.body,
        status=answer.status,
        code=code if isinstance(code, int) else None,
        refused=answer.refused,
    )
