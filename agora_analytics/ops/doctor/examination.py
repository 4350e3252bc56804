"""Runs the checks one after the other; each request is sent once and never beyond the quota."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

import attrs

from agora_analytics._core.retry import Retry, host_failed
from agora_analytics.catalogue import Granularity, Product, RealtimeUsageMetric, UsageMetric
from agora_analytics.client import AnalyticsClient, dispatcher_of, service_time, with_options
from agora_analytics.errors import (
    AgoraError,
    BadRequest,
    LedgerError,
    PlanRefused,
    QuotaExhausted,
    ResponseError,
    ServerError,
    TransportError,
    Unauthorized,
)
from agora_analytics.models import Call
from agora_analytics.ops.doctor.checks import PEAK_METRICS, Check, checklist
from agora_analytics.ops.doctor.profile import AccountProfile, Selects
from agora_analytics.ops.doctor.report import DoctorReport, Finding, HostTiming, LimitFinding, Status
from agora_analytics.plans import CALL_LISTS, ENDPOINTS, INSIGHT_USAGE, REALTIME_USAGE, Endpoint, Plan
from agora_analytics.quota.priority import Priority
from agora_analytics.quota.snapshot import ClockState
from agora_analytics.spans import DAY, HOUR, MINUTE, WINDOW, Span

__all__ = ["examine"]

T = TypeVar("T")

_TOLERATED: Final = 2.0
"""Seconds by which a host's clock may be off without a warning."""

_INSIDE: Final = 60
"""Seconds between the ends of a call and the span inside it that `selection` searches: the call must only overlap."""

_EDGE: Final = 30
"""Seconds that `retention` keeps from the oldest second that the plan keeps: time passes before the request arrives."""


async def examine(client: AnalyticsClient) -> DoctorReport:
    """Find out whether the settings of a client are right, and how the service answers it; `checklist` has the price.

    ```python
    from agora_analytics.ops import doctor

    async with AnalyticsClient.from_env() as client:
        print(sum(check.requests for check in doctor.checklist(client)), "requests at most")
        report = await doctor.examine(client)
        for finding in report.findings:
            print(finding.check, finding.status, finding.answer)
        report.profile.save("agora-profile.json")
    ```

    Each request is sent once, without retries, inside the quota, and waits for it like all others. What fails becomes
    a finding. Checks that could not succeed any more, as after wrong credentials, are skipped and cost nothing. Raises
    `LedgerError` if the count of requests cannot be read, and `ValueError` if the plan has no API access.
    """
    return await _Examination(client).run()


class _Examination:
    """One examination: the client without retries, and what the checks have found so far."""

    def __init__(self, client: AnalyticsClient) -> None:
        # A retry would cost more than `checklist` says, and hide the failure that a check looks for.
        self._client = with_options(client, retry=Retry(attempts=1), max_rate_limited=0, priority=Priority.INTERACTIVE)
        self._checks = {check.name: check for check in checklist(client)}
        self._sent = 0
        self._hosts: tuple[HostTiming, ...] = ()
        self._refusals: tuple[Unauthorized, ...] = ()
        self._stopped_by: str | None = None
        self._calls: tuple[Call, ...] = ()
        self._end_inclusive: bool | None = None
        self._selection: Selects | None = None
        self._peak_metrics: tuple[str, ...] = ()

    async def run(self) -> DoctorReport:
        """Run all checks."""
        findings = [finding async for finding in self._findings()]
        states = tuple(await self._client.quota.snapshot())
        limits = tuple(
            LimitFinding(
                counter=state.counter,
                unit=state.unit,
                planned=state.planned,
                named=None if state.learned is None else state.limit,
            )
            for state in states
        )
        return DoctorReport(
            findings=tuple(findings),
            hosts=self._hosts,
            clock=await self._clock_state(),
            limits=limits,
            end_inclusive=self._end_inclusive,
            selection=self._selection,
            peak_metrics=self._peak_metrics,
            shared_counters=None,
            requests=self._sent,
            profile=self._profile(limits),
        )

    async def _findings(self) -> AsyncIterator[Finding]:
        run: dict[str, Callable[[], Coroutine[Any, Any, Finding]]] = {
            "hosts": self._check_hosts,
            "account": self._check_account,
            "clock": self._check_clock,
            "retention": self._check_retention,
            "insights": self._check_insights,
            "peak_metrics": self._check_peak_metrics,
            "realtime": self._check_realtime,
            "selection": self._check_selection,
            "limits": self._check_limits,
            "shared_counters": self._check_shared_counters,
        }
        for check in self._checks.values():
            before = self._sent
            finding = self._skipped(check) or await run[check.name]()
            yield attrs.evolve(finding, requests=self._sent - before)

    def _skipped(self, check: Check) -> Finding | None:
        """Return a finding if the check could not succeed any more, None if it is to be run."""
        if check.endpoint is None or self._stopped_by is None:
            return None
        return Finding(check=check.name, status="skipped", answer=f"not checked, because {self._stopped_by}")

    async def _send(self, request: Coroutine[Any, Any, T]) -> T | AgoraError:
        """Return the answer of a request or its error, and count it."""
        self._sent += 1
        try:
            return await request
        except QuotaExhausted as error:
            # Both are raised before anything is sent.
            self._sent -= 1
            return error
        except LedgerError:
            self._sent -= 1
            raise
        except AgoraError as error:
            return error

    async def _check_hosts(self) -> Finding:
        span = self._newest(CALL_LISTS, HOUR)
        for number, address in enumerate(dispatcher_of(self._client).hosts):
            timing = await self._time_host(number, address, span)
            if isinstance(timing, QuotaExhausted):
                return _error("hosts", timing)
            self._hosts = (*self._hosts, timing)
        answering = [host for host in self._hosts if host.seconds is not None]
        status: Status = "failed" if not answering else "warning" if len(answering) < len(self._hosts) else "ok"
        if not answering:
            self._stopped_by = "no host answers"
        return Finding(
            check="hosts",
            status=status,
            answer=", ".join(map(_host_sentence, self._hosts)),
            hint="" if status == "ok" else "Check the network, the proxy and the addresses of the hosts.",
        )

    async def _time_host(self, number: int, address: str, span: Span) -> HostTiming | QuotaExhausted:
        client, longest = with_options(self._client, host=number), dispatcher_of(self._client).max_wait
        wait = (await client.quota.forecast(1, CALL_LISTS)).seconds
        # Wait for the quota first, so that only the host is timed. Beyond `max_wait` the request raises at once.
        if longest is None or wait <= longest:
            await asyncio.sleep(wait)
        begun = service_time(client).monotonic()
        answer = await self._send(client.calls.page(*span, page_size=1))
        taken = service_time(client).monotonic() - begun
        if isinstance(answer, QuotaExhausted):
            return answer
        # Refused credentials are an answer of the host, and are judged by the next check at no further request.
        self._refusals += (answer,) if isinstance(answer, Unauthorized) else ()
        if isinstance(answer, AgoraError) and not _was_answered(answer):
            return HostTiming(host=address, seconds=None, error=str(answer.args[0]))
        return HostTiming(host=address, seconds=taken)

    async def _check_account(self) -> Finding:
        answering = sum(host.seconds is not None for host in self._hosts)
        # Refused by every host: another request would be refused too.
        if self._refusals and len(self._refusals) == answering:
            return self._account_refused(self._refusals[0])
        span = self._newest(CALL_LISTS, self._plan.of_endpoint(CALL_LISTS).longest_query)
        answer = await self._send(self._client.calls.page(*span))
        if isinstance(answer, Unauthorized) or (isinstance(answer, PlanRefused) and answer.kind == "access"):
            return self._account_refused(answer)
        if isinstance(answer, AgoraError):
            return _error("account", answer)
        self._calls = answer.items
        found = len(self._calls) if answer.total_size is None else answer.total_size
        return Finding(
            check="account",
            status="ok",
            answer=f"credentials, App ID and plan {self._plan.name!r} are accepted: {found} calls in {span}",
        )

    def _account_refused(self, error: AgoraError) -> Finding:
        self._stopped_by = "the account was refused"
        return Finding(check="account", status="failed", answer=str(error.args[0]), hint=error.hint)

    async def _check_clock(self) -> Finding:
        clock = await self._clock_state()
        if clock is None or clock.uncertainty > DAY:
            return Finding(check="clock", status="unknown", answer="no answer with a date that can be trusted arrived")
        least, most = clock.offset, clock.offset + clock.uncertainty
        # Only if the whole range is outside is the clock certainly wrong.
        if least <= _TOLERATED and most >= -_TOLERATED:
            within = max(abs(least), abs(most))
            return Finding(check="clock", status="ok", answer=f"the host's clock is right, within {within:.1f} s")
        near, far = sorted((abs(least), abs(most)))
        direction = "behind" if least > 0 else "ahead of"
        return Finding(
            check="clock",
            status="warning",
            answer=f"the host's clock is {near:.1f} to {far:.1f} s {direction} the service's",
            hint="The client corrects for it; other programs do not: set the clock, for example with NTP.",
        )

    async def _check_retention(self) -> Finding:
        limits = self._plan.of_endpoint(CALL_LISTS)
        start = limits.oldest(service_time(self._client).utc_second()) + _EDGE
        answer = await self._send(self._client.calls.page(start, start + MINUTE, page_size=1))
        days = f"{limits.retention / DAY:g} days of calls"
        if isinstance(answer, PlanRefused):
            named = "" if answer.limit is None else f", but {answer.limit / DAY:g} days"
            hint = "Is it another plan? If not, pass plan=Plan.of(…).with_limits('call_lists', retention=…)."
            return Finding(check="retention", status="failed", answer=f"not {days}{named}: {answer.args[0]}", hint=hint)
        if isinstance(answer, AgoraError):
            return _error("retention", answer)
        return Finding(check="retention", status="ok", answer=f"{days} are kept")

    async def _check_insights(self) -> Finding:
        limits = self._plan.of_endpoint(INSIGHT_USAGE)
        # A day older than the newest: by then every bucket that has data is there.
        end = (limits.newest(service_time(self._client).utc_second()) - DAY) // HOUR * HOUR
        request = self._client.insights.usage(UsageMetric.USER_COUNT, end - 6 * HOUR, end, granularity=Granularity.HOUR)
        answer = await self._send(request)
        if isinstance(answer, AgoraError):
            return _error("insights", answer)
        buckets = {point.ts for point in answer}
        if end in buckets or end - HOUR in buckets:
            self._end_inclusive = end in buckets
            verdict = "is included" if self._end_inclusive else "is not included"
            return Finding(check="insights", status="ok", answer=f"included; the bucket that starts at endTs {verdict}")
        return Finding(check="insights", status="unknown", answer="included, but without data around that hour")

    async def _check_peak_metrics(self) -> Finding:
        limits = self._plan.of_endpoint(INSIGHT_USAGE)
        # A whole day that is over, as the peak of one that goes on may still be missing.
        end = (limits.newest(service_time(self._client).utc_second()) - DAY) // DAY * DAY
        unclear = False
        for metric in PEAK_METRICS:
            answer = await self._send(self._client.insights.usage(metric, end - DAY, end))
            if isinstance(answer, AgoraError) and not _is_bad_name(answer):
                return _error("peak_metrics", answer)
            if isinstance(answer, AgoraError):
                continue
            # Empty may mean that there were no users, or that the name is not known: it proves neither.
            unclear = unclear or not answer
            self._peak_metrics += (metric.value,) if answer else ()
        if unclear and not self._peak_metrics:
            return Finding(check="peak_metrics", status="unknown", answer="the answers have no data for either name")
        names = ", ".join(self._peak_metrics) or f"neither of {', '.join(PEAK_METRICS)}"
        return Finding(check="peak_metrics", status="ok", answer=f"accepted: {names}")

    async def _check_realtime(self) -> Finding:
        span = self._newest(REALTIME_USAGE, 3 * WINDOW)
        request = self._client.realtime.usage(RealtimeUsageMetric.USER_COUNT, *span, product=Product.NATIVE)
        answer = await self._send(request)
        if isinstance(answer, AgoraError):
            return _error("realtime", answer)
        if not answer:
            return Finding(check="realtime", status="unknown", answer="included, but without users right now")
        behind = service_time(self._client).utc() - (max(point.ts for point in answer) + WINDOW)
        return Finding(check="realtime", status="ok", answer=f"included; the newest window ended {behind:.0f} s ago")

    async def _check_selection(self) -> Finding:
        call = max((call for call in self._calls if _inside(call)), key=_length, default=None)
        span = None if call is None else _inside(call)
        if call is None or span is None:
            answer = f"no call of the newest page lasted {3 * _INSIDE} s and is over"
            return Finding(check="selection", status="unknown", answer=answer)
        page = await self._send(self._client.calls.page(*span, cname=call.cname))
        if isinstance(page, AgoraError):
            return _error("selection", page)
        # The call overlaps the span but begins before it: only a search by overlap lists it.
        if any(found.call_id == call.call_id for found in page.items):
            self._selection = "overlap"
            return Finding(
                check="selection", status="ok", answer="searches select the calls that overlap the time range"
            )
        # The call may be on a later page, which the price of the check does not include.
        if page.has_more:
            return Finding(check="selection", status="unknown", answer="the list of the channel was too long to tell")
        self._selection = "start"
        return Finding(check="selection", status="ok", answer="searches select the calls that start in the time range")

    async def _check_limits(self) -> Finding:
        named = [
            f"{state.limit} a {state.unit} for {state.counter}, not {state.planned}"
            for state in await self._client.quota.snapshot()
            if state.learned is not None and state.limit != state.planned
        ]
        if named:
            hint = "The profile has these limits."
            return Finding(check="limits", status="warning", answer=f"the service named {'; '.join(named)}", hint=hint)
        if self._stopped_by is not None:
            return Finding(check="limits", status="unknown", answer=f"not checked, because {self._stopped_by}")
        answer = "nothing contradicts the plan's: the service names a limit only when it refuses a request"
        return Finding(check="limits", status="ok", answer=answer)

    async def _check_shared_counters(self) -> Finding:
        answer = "only a request beyond a limit would tell; one counter for each table is always safe"
        return Finding(check="shared_counters", status="unknown", answer=answer)

    def _profile(self, limits: tuple[LimitFinding, ...]) -> AccountProfile:
        answering = [host for host in self._hosts if host.seconds is not None]
        # Fastest first: the client sends to the first host and uses the others for failover.
        fastest = sorted(answering, key=lambda host: host.seconds or 0.0)
        return AccountProfile(
            plan=_with_named(self._plan, limits),
            hosts=tuple(host.host for host in fastest if "://" in host.host),
            end_inclusive=self._end_inclusive,
            selection=self._selection,
            peak_metrics=self._peak_metrics,
            examined_at=service_time(self._client).utc_second(),
        )

    @property
    def _plan(self) -> Plan:
        return self._client.plan

    async def _clock_state(self) -> ClockState | None:
        return (await self._client.quota.snapshot()).clock

    def _newest(self, endpoint: Endpoint, duration: int) -> Span:
        """Return the newest span that can be queried, in plain integers: requests would shift a `HostSecond`."""
        span = self._plan.recent(endpoint, duration, service_time(self._client).utc_second())
        return Span(int(span.start), int(span.end))


def _error(check: str, error: AgoraError) -> Finding:
    """Return the finding for a request that failed; a spent quota says nothing about the account."""
    status: Status = "unknown" if isinstance(error, QuotaExhausted | TransportError) else "failed"
    return Finding(check=check, status=status, answer=str(error.args[0]), hint=error.hint)


def _was_answered(error: AgoraError) -> bool:
    """Whether the host itself works, though it refused the request."""
    return isinstance(error, ResponseError) and not host_failed(error)


def _is_bad_name(error: AgoraError) -> bool:
    """Whether the service does not know a metric: some bad input is answered with a code 500 inside a 200."""
    return isinstance(error, BadRequest) or (isinstance(error, ServerError) and _was_answered(error))


def _host_sentence(host: HostTiming) -> str:
    return (
        f"{host.host} fails: {host.error}" if host.seconds is None else f"{host.host} answers in {host.seconds:.2f} s"
    )


def _length(call: Call) -> int:
    return (call.destroyed_ts or 0) - (call.created_ts or 0)


def _inside(call: Call) -> Span | None:
    """Return a span inside a call that is over, or None for a short one."""
    if not call.created_ts or not call.finished or _length(call) < 3 * _INSIDE:
        return None
    # An hour at most, which one request may span on every plan of the reference.
    return Span(call.created_ts + _INSIDE, call.created_ts + min(_length(call) - _INSIDE, HOUR))


def _with_named(plan: Plan, limits: tuple[LimitFinding, ...]) -> Plan:
    """Return the plan with the limits that the service named."""
    for limit in limits:
        if limit.named is not None:
            tables = {endpoint.table for endpoint in ENDPOINTS if plan.counter(endpoint) == limit.counter}
            for table in sorted(tables & plan.limits.keys()):
                plan = plan.with_limits(table, **{f"per_{limit.unit}": limit.named})
    return plan
