"""The types of the public API: never run, checked by mypy and pyright in strict mode.

Each `assert_type` is a promise. Each `type: ignore` marks an error that both must report: they also report an ignore
that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Literal, assert_never, assert_type

import agora_analytics
from agora_analytics import (
    ENTERPRISE,
    HOSTS,
    PREMIUM,
    STANDARD,
    STARTER,
    AgoraError,
    AnalyticsClient,
    BadRequest,
    BadRow,
    Call,
    CallPage,
    CertificateError,
    CheckpointError,
    ClockState,
    DecodeError,
    FileLedger,
    Filter,
    FleetError,
    Forecast,
    Found,
    FreezeBucket,
    IncompleteList,
    LedgerError,
    Limits,
    MemoryLedger,
    NotFound,
    Plan,
    PlanRefused,
    Point,
    Priority,
    Quota,
    QuotaExhausted,
    QuotaSnapshot,
    QuotaState,
    Ranked,
    RateLimited,
    ResponseError,
    Results,
    Retry,
    ServerError,
    Session,
    SessionMetrics,
    SessionPage,
    Span,
    Statistic,
    Timeouts,
    TooEarly,
    Total,
    Track,
    TransportError,
    TransportTimeout,
    Unauthorized,
)
from agora_analytics.catalogue import (
    Dimension,
    FreezeMetric,
    Granularity,
    MetricId,
    Product,
    QualityMetric,
    RealtimeUsageMetric,
    TimelineMetric,
    UsageMetric,
)
from agora_analytics.errors import Fault
from agora_analytics.plans import CALL_LISTS, ENDPOINTS, PLANS, Endpoint, Unit
from agora_analytics.protocols import Ledger, Request, Response, Transport
from agora_analytics.simulator import Simulation


async def constructing(transport: Transport, ledger: Ledger, plan: Plan) -> None:
    async with AnalyticsClient("id", "secret", plan="premium") as client:
        assert_type(client, AnalyticsClient)
        assert_type(client.with_app("app"), AnalyticsClient)
        assert_type(client.plan, Plan)
        assert_type(client.quota, Quota)
        assert_type(client.with_priority(Priority.EXPORT), AnalyticsClient)
        snapshot: QuotaSnapshot = await client.quota.snapshot()
        assert_type((snapshot.states, snapshot.clock), tuple[tuple[QuotaState, ...], ClockState | None])
        assert_type([state.priorities[Priority.STREAM] for state in snapshot], list[int])
        assert_type(await client.quota.forecast(100, CALL_LISTS), Forecast)
        assert_type((await client.quota.forecast(100, "realtime")).at, datetime)
        assert_type(await client.close(), None)
    assert_type(AnalyticsClient.from_env(app_id="app"), AnalyticsClient)
    AnalyticsClient(
        "id",
        "secret",
        plan=plan,
        app_id=None,
        base_url=HOSTS,
        timeouts=Timeouts(total=30),
        retry=Retry(attempts=2),
        max_wait=None,
        max_bytes=2**20,
        read_ahead=False,
        ledger=ledger,
        close_ledger=True,
        quotas=False,
        transport=transport,
        clock=lambda: 0.0,
    )
    AnalyticsClient("id", "secret")  # type: ignore[call-arg]
    AnalyticsClient("id", "secret", plan=3)  # type: ignore[arg-type]
    AnalyticsClient("id", b"secret", plan=plan)  # type: ignore[arg-type]
    AnalyticsClient("id", "secret", plan=plan, on_bad_row="raise")
    AnalyticsClient("id", "secret", plan=plan, on_bad_row="ignore")  # type: ignore[arg-type]
    AnalyticsClient("id", "secret", plan)  # type: ignore[call-arg]
    assert_type(agora_analytics.__version__, str)


async def calls(client: AnalyticsClient, start: datetime, end: int, call: Call) -> None:
    assert_type(client.calls.recent(timedelta(hours=8)), Span)
    assert_type(client.calls.search(start, end, cname="c", page_size=20), Results[Call])
    assert_type(await client.calls.page(start, end, cname="c", page_no=2, page_size=20), CallPage)
    assert_type(client.calls.sessions(call, uids=[1, "two"], exclude_server_user=False), Results[Session])
    assert_type(await client.calls.sessions_page("id", start, end, uids=(1,)), SessionPage)
    assert_type(client.calls.metrics(call), Results[SessionMetrics])
    assert_type(client.calls.metrics("id", ["sid"], start, end), Results[SessionMetrics])
    assert_type(client.calls.metrics(call, exclude_server_user=False), Results[SessionMetrics])
    assert_type(await client.calls.statistics(call, FreezeMetric.AUDIO, Dimension.OS), Found[Statistic])
    assert_type(await client.calls.freeze_buckets(call, "audio_freeze_rate"), Found[FreezeBucket])
    assert_type(await client.calls.timeline(call, TimelineMetric.USER_COUNT), Found[Point])
    async for found in client.calls.search(*client.calls.recent(3_600)):
        assert_type(found, Call)
    async with aclosing(client.calls.sessions(call)) as sessions:
        assert_type([session async for session in sessions], list[Session])
        client.calls.metrics(call, [session async for session in sessions])
    iterator: AsyncIterator[Call] = client.calls.search(start, end)
    results: AsyncGenerator[Call] = client.calls.search(start, end)
    await results.aclose()
    assert_type(client.calls.search(start, end).missing, tuple[Span, ...])
    limited = client.calls.search(start, end, max_requests=7)
    assert_type(limited.exhausted, bool)
    assert_type((limited.requests, limited.narrowed, limited.skipped), tuple[int, int, tuple[BadRow, ...]])
    points = await client.calls.timeline(call, "user_count")
    assert_type((points.missing, points.skipped), tuple[tuple[Span, ...], tuple[BadRow, ...]])
    assert_type(points[0], Point)
    any_tuple: tuple[Point, ...] = points
    assert_type(any_tuple[0], Point)
    assert_type((await client.calls.sessions_page(call)).missing, tuple[Span, ...])
    assert_type(await anext(iterator), Call)
    client.calls.search(1.5, end)  # type: ignore[arg-type]
    client.calls.search(start, end, "channel")  # type: ignore[call-arg]
    client.calls.sessions(3)  # type: ignore[arg-type]
    client.calls.sessions(call, uids=[1.5])  # type: ignore[list-item]
    await client.calls.search(start, end)  # type: ignore[misc]
    await client.calls.statistics(call, "audio_freeze_rate")  # type: ignore[call-arg]


async def insights(client: AnalyticsClient, start: datetime, end: datetime) -> None:
    assert_type(client.insights.recent(86_400), Span)
    assert_type(await client.insights.usage("userCount", start, end, granularity="1h"), Found[Point])
    assert_type(
        await client.insights.quality(
            QualityMetric.NETWORK_DELAY, start, end, product=Product.WEBRTC, granularity=Granularity.HOUR
        ),
        Found[Point],
    )
    assert_type(
        await client.insights.usage_total(
            UsageMetric.USER_COUNT,
            start,
            end,
            dimension="region",
            dimension_values=["Shanghai"],
            filters=[Filter("country", "China")],
        ),
        Found[Total],
    )
    assert_type(
        await client.insights.quality_total("networkDelay", start, end, dimension=Dimension.SDK, product="Native"),
        Found[Total],
    )
    await client.insights.quality("networkDelay", start, end)  # type: ignore[call-arg]
    await client.insights.usage_total(
        "userCount",
        start,
        end,
        filters=[("country", "China")],  # type: ignore[list-item]
    )


async def realtime(client: AnalyticsClient, start: int, end: int) -> None:
    assert_type(client.realtime.recent(timedelta(minutes=10)), Span)
    assert_type(
        await client.realtime.usage(
            RealtimeUsageMetric.USER_COUNT, start, end, product="Native", dimension="sdk", dimension_values=("4.1.1",)
        ),
        Found[Point],
    )
    assert_type(
        await client.realtime.quality("networkDelay", start, end, product=Product.NATIVE, cname="c", uids=[1, 2]),
        Found[Point],
    )
    assert_type(await client.realtime.usage_top("device", end, product="Native"), Found[Ranked])
    assert_type(
        await client.realtime.quality_top("networkDelay", "os", end, product="WebRTC", extra_metrics="userCount"),
        Found[Ranked],
    )
    await client.realtime.usage("userCount", start, end)  # type: ignore[call-arg]
    await client.realtime.usage("userCount", start, end, product=None)  # type: ignore[arg-type]


def models(
    page: CallPage,
    sessions: SessionPage,
    session: Session,
    metrics: SessionMetrics,
    statistic: Statistic,
    bucket: FreezeBucket,
) -> None:
    assert_type(page.items, tuple[Call, ...])
    assert_type((page.total_size, page.page_no, page.page_size), tuple[int | None, int | None, int | None])
    assert_type((page.has_more, page.code, page.message), tuple[bool | None, int | None, str | None])
    assert_type(page.request_id, str | None)
    assert_type(page.skipped, tuple[BadRow, ...])
    assert_type([(row.path, row.reason, row.whole) for row in page.skipped], list[tuple[str, str, bool]])
    call = page.items[0]
    assert_type(call.is_over, bool)
    assert_type((call.call_id, call.cname), tuple[str, str | None])
    assert_type((call.started_at, call.ended_at), tuple[datetime | None, datetime | None])
    assert_type((call.span, call.finished), tuple[Span | None, bool | None])
    assert_type((call.call_acu, call.call_audio_freeze_rate), tuple[float | None, float | None])
    assert_type(sessions.items, tuple[Session, ...])
    assert_type((session.sid, session.uid), tuple[str, int | str | None])
    assert_type((session.roles, session.joined_at), tuple[tuple[str, ...] | None, datetime | None])
    assert_type(metrics.track(MetricId.APP_CPU, peer_uid="42"), Track | None)
    assert_type(metrics.data, tuple[Track, ...])
    track = metrics.data[0]
    assert_type((track.mid, track.peer_uid), tuple[int, int | str | None])
    assert_type(track.points, tuple[tuple[int, float], ...])
    timestamps, values = track.columns()
    assert_type((timestamps[0], values[0]), tuple[int, float])
    assert_type((statistic.value, statistic.user_count), tuple[float | None, int | None])
    assert_type((bucket.bucket, bucket.lowest), tuple[str, float])
    call.cname = "other"  # type: ignore[misc]
    call.started  # type: ignore[attr-defined]  # noqa: B018
    Call(cname="no id")  # type: ignore[call-arg]


def rows(point: Point, total: Total, ranked: Ranked) -> None:
    assert_type((point.ts, point.value), tuple[int, int | float | None])
    assert_type((point.dimension_value, point.uid), tuple[str | None, int | str | None])
    assert_type(point.started_at, datetime | None)
    assert_type(Point.of(0, 1.5, metric="userCount", dimension="os", dimension_value="iOS", uid=3), Point)
    assert_type((total.value, total.ref_usage), tuple[int | float | None, int | float | None])
    assert_type((ranked.dimension_value, ranked.window_start), tuple[str | None, int | None])


def spans(span: Span, now: datetime) -> None:
    start, end = span
    assert_type((start, end), tuple[int, int])
    assert_type(iter(span), Iterator[int])
    assert_type(Span.of(now, 3), Span)
    assert_type((now in span, span.duration, span.started_at), tuple[bool, int, datetime])
    assert_type(span.slices(3_600, mark=20), tuple[Span, ...])
    assert_type(span.overlapping(86_400, 3_600), tuple[Span, ...])
    assert_type(span.windows(), Span | None)
    Span.of("yesterday", now)  # type: ignore[arg-type]
    Span.of(now, now.timestamp())  # type: ignore[arg-type]
    span.start = 3  # type: ignore[misc]


def plans(limits: Limits, span: Span) -> None:
    assert_type(PLANS, dict[str, Plan])
    assert_type((STARTER, STANDARD, PREMIUM, ENTERPRISE), tuple[Plan, Plan, Plan, Plan])
    assert_type(Plan.of("premium"), Plan)
    assert_type(ENDPOINTS, tuple[Endpoint, ...])
    assert_type((CALL_LISTS.name, CALL_LISTS.method), tuple[str, Literal["GET", "POST"]])
    assert_type(PREMIUM.of_endpoint(CALL_LISTS), Limits)
    assert_type((PREMIUM.offers(CALL_LISTS), PREMIUM.counter(CALL_LISTS)), tuple[bool, str])
    assert_type(limits.rates, dict[Unit, int])
    assert_type((limits.longest, limits.longest_query), tuple[int | None, int])
    assert_type(limits.queryable(0), Span)
    assert_type(limits.queryable_at(0), int)
    assert_type(ENTERPRISE.with_limits("realtime", per_day=1).split().merge("all", ENDPOINTS), Plan)
    assert_type(PREMIUM.check(CALL_LISTS, span, 0, whole=False), Span)
    assert_type(PREMIUM.recent(CALL_LISTS, timedelta(days=1), 0), Span)
    Limits(per_day=1, retention=2)  # type: ignore[call-arg]


def missing(error: IncompleteList) -> DecodeError:
    assert_type((error.span, error.rows, error.reported), tuple[Span | None, int, int | None])
    return error


def too_early(error: TooEarly, client: AnalyticsClient, call: Call) -> None:
    assert_type((error.queryable_at, client.calls.queryable_at(call)), tuple[int, int])
    assert_type(client.calls.is_queryable(call), bool)
    assert_type(client.calls.sessions(call, wait=True), Results[Session])
    assert_type(client.calls.metrics(call, exclude_server_user=False, wait=True), Results[SessionMetrics])


def failures(error: AgoraError) -> str:
    assert_type((error.request, error.hint, error.retryable), tuple[str, str, bool])
    assert_type(error.fault, Fault)
    match error:
        case TransportTimeout() | CertificateError() | TransportError():
            assert_type(error.sent, bool)
        case RateLimited():
            assert_type((error.unit, error.limit), tuple[Literal["second", "minute", "day"], int | None])
        case PlanRefused():
            assert_type((error.kind, error.limit), tuple[str, int | None])
        case BadRequest() | Unauthorized() | NotFound() | ServerError():
            assert_type((error.status, error.code), tuple[int, int | None])
        case ResponseError():
            assert_type((error.request_id, error.retry_after), tuple[str | None, float | None])
        case DecodeError():
            assert_type((error.path, error.excerpt, error.request_id), tuple[str, str, str | None])
        case QuotaExhausted():
            assert_type((error.group, error.unit, error.limit, error.resets_in), tuple[str, str, int, float])
        case CheckpointError() | LedgerError() | FleetError() | AgoraError():
            return str(error)
    match error.fault:
        case "caller" | "plan" | "service" | "network" | "host" as fault:
            return fault
        case _ as never:
            assert_never(never)


def catalogue() -> None:
    assert_type((UsageMetric.USER_COUNT.unit, UsageMetric.USER_COUNT.meaning), tuple[str, str])
    assert_type((MetricId(20001).unit, MetricId.name_of(99)), tuple[str, str])
    text: str = Dimension.OS
    number: int = MetricId.APP_CPU
    print(text, number)


class CustomTransport:
    """A transport that satisfies the protocol without inheriting from it."""

    hosts = 1

    async def send(self, request: Request, host: int = 0) -> Response:
        """Return an empty response."""
        assert_type((request.endpoint, request.query, request.body), tuple[Endpoint, str, bytes | None])
        return Response(200, {"Date": str(host)}, b"{}")

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        """Nothing is open."""


class NotATransport:
    """Lacks the methods of a transport."""

    hosts = 1


async def protocols(simulation: Simulation) -> None:
    ledgers: tuple[Ledger, ...] = (MemoryLedger(), FileLedger("quota.db"))
    assert_type(await ledgers[0].change("account", lambda state: state.issued), int)
    transport: Transport = CustomTransport()
    AnalyticsClient("id", "secret", plan="premium", transport=transport)
    wrong: Transport = NotATransport()  # type: ignore[assignment]
    assert_type(simulation.client(), AnalyticsClient)
    print(wrong)
