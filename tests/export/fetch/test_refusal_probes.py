"""What a refusal concerns, found out by probes: over endpoints that answer or refuse, without an export."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace

import attrs
import pytest

from agora_analytics import NotFound, Plan, PlanRefused, RateLimited, TransportError, Unauthorized
from agora_analytics.export.fetch.fetcher import RetryingFetcher
from agora_analytics.export.fetch.refusals import RefusalClassifier
from agora_analytics.export.fetch.retention import Probe
from agora_analytics.export.fetch.skip_reasons import APP, DETAILS
from agora_analytics.export.fetch.slices import by_name
from agora_analytics.export.fetch.sources import Slice
from agora_analytics.export.state.calls import CallStatus, DueFilter, PendingCall
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.models import Call
from agora_analytics.plans import CALL_LISTS
from agora_analytics.spans import Span

NOON = 1_795_521_600


@attrs.frozen
class Asked:
    """A source whose probes can be told apart from those of others."""

    name: str
    endpoint = CALL_LISTS

    def __str__(self) -> str:
        return self.name

    def probe(self, endpoints: SimpleNamespace, _: str, second: int) -> Probe:
        return Probe(second, partial(endpoints.calls.page, cname=self.name))


ROOM, HALL = Asked("room"), Asked("hall")


ABOUT = {"request": "", "hint": "", "status": 200, "code": 404, "message": "not for you"}


def error_of(kind: str | None = None) -> Exception:
    about = ABOUT
    if kind is None:
        return NotFound("no", **about)
    error = PlanRefused("no", **about)
    error.kind = kind
    return error


class Service:
    """Answers probes, except those (App ID, channel) that it refuses, and records them."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, str]] = set()
        self.kind: str | None = None
        self.trouble: list[Exception] = []
        self.asked: list[tuple[str, str]] = []

    def of(self, app: str) -> SimpleNamespace:
        async def page(*, cname: str) -> object:
            self.asked.append((app, cname))
            if self.trouble:
                raise self.trouble.pop()
            if (app, cname) in self.refused:
                raise error_of(self.kind)
            return None

        return SimpleNamespace(calls=SimpleNamespace(page=page))


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def disk(tmp_path):
    async with StateThread() as disk:
        await disk.open(lambda: ExportState(tmp_path / "state.db", "there"))
        yield disk


@pytest.fixture
def refusals(service: Service, disk: StateThread) -> RefusalClassifier:
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    return RefusalClassifier(
        session, disk, RetryingFetcher(None), {app: service.of(app) for app in ("one", "two")}, by_name([ROOM, HALL])
    )


def part(app: str = "one", source: Asked = ROOM, number: int = 1) -> PendingSlice:
    return PendingSlice(number, app, str(source), Slice(Span(0, 100), 90), page=1, count=0, again=False)


async def call(disk: StateThread, app: str, name: str) -> PendingCall:
    await disk.change(
        lambda state: state.upsert_call(app, Call(call_id=name, call_pcu=1), Span(5, 9), CallStatus.PENDING, 0.0)
    )
    due = await disk.change(lambda state: state.pending(DueFilter(before=10), (app,), ()))
    return next(one for one in due if one.call_id == name)


def left(disk: StateThread) -> set[str]:
    calls = disk.state.calls_for_manifest()
    return {call_id for _, call_id, *_, status, _, _ in calls if status == CallStatus.SKIPPED}


async def test_a_span_that_is_too_long_for_the_plan_ends_the_run_without_a_probe(refusals, service):
    with pytest.raises(PlanRefused):
        await refusals.slice_refused(part(), error_of("length"))
    assert service.asked == []


async def test_only_the_span_is_skipped_if_its_source_answers_a_probe(refusals, service):
    await refusals.slice_refused(part(), error_of())
    assert refusals.is_slice_skipped(part())
    assert not refusals.is_slice_skipped(part(number=2))
    assert [(one.what, one.span) for one in refusals.skipped(Span(0, 500))] == [("room", Span(0, 90))]


async def test_a_skipped_source_is_not_probed_again(refusals, service):
    service.refused = {("one", "room")}
    await refusals.slice_refused(part(), error_of())
    assert refusals.is_skipped("one", "room")
    assert not refusals.is_skipped("one", "hall")
    assert not refusals.is_skipped("two", "room")
    before = len(service.asked)
    await refusals.slice_refused(part(number=2), error_of())
    assert len(service.asked) == before
    assert [(one.what, one.span) for one in refusals.skipped(Span(0, 500))] == [("room", Span(0, 500))]


async def test_an_app_id_is_skipped_if_another_one_answers_and_the_run_ends_if_none_does(refusals, service):
    service.refused = {("one", "room"), ("one", "hall")}
    await refusals.slice_refused(part(), error_of())
    assert refusals.is_skipped("one", APP)
    assert refusals.apps_with_details() == ["two"]
    service.refused |= {("two", "room"), ("two", "hall")}
    with pytest.raises(NotFound):
        await refusals.slice_refused(part("two"), error_of())


@pytest.mark.parametrize("kind", ["latency", "length", "range"])
async def test_a_refusal_of_a_span_proves_access_to_its_source(refusals, service, kind):
    service.refused, service.kind = {("one", "room")}, kind
    await refusals.slice_refused(part(), error_of())
    assert refusals.is_slice_skipped(part())
    assert not refusals.is_skipped("one", "room")


async def test_a_skipped_span_is_not_reported_again_once_its_source_is_skipped(refusals, service):
    await refusals.slice_refused(part(), error_of())
    service.refused = {("one", "room")}
    await refusals.slice_refused(part(number=2), error_of())
    assert [(one.what, one.span) for one in refusals.skipped(Span(0, 500))] == [("room", Span(0, 500))]


async def test_skipped_items_among_the_pending_ones_are_counted(refusals, service, disk):
    await disk.change(lambda state: state.add_slices("one", "room", [Slice(Span(0, 9), 9), Slice(Span(9, 18), 18)]))
    await disk.change(lambda state: state.add_slices("one", "hall", [Slice(Span(0, 9), 9)]))
    for name in ("a", "b"):
        one = await call(disk, "one", name)
        await refusals.call_refused(one, error_of("access"))
    assert await disk.change(lambda state: refusals.count_skipped(state, 0)) == 0
    await refusals.resolve()
    assert await disk.change(lambda state: refusals.count_skipped(state, 0)) == 2
    service.refused = {("one", "room")}
    await refusals.slice_refused(part(), error_of())
    assert await disk.change(lambda state: refusals.count_skipped(state, 0)) == 4


async def test_without_a_budget_for_probes_refused_calls_wait_for_the_next_run(service, disk):
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    refusals = RefusalClassifier(session, disk, RetryingFetcher(0), {"one": service.of("one")}, by_name([ROOM]))
    await refusals.call_refused(await call(disk, "one", "a"), error_of())
    await refusals.resolve()
    assert (left(disk), service.asked) == (set(), [])


async def test_a_refused_app_id_costs_a_few_probes_however_many_sources_there_are(service, disk):
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    many = [Asked(f"{number}") for number in range(9)]
    apps = {app: service.of(app) for app in ("one", "two")}
    refusals = RefusalClassifier(session, disk, RetryingFetcher(None), apps, by_name(many))
    service.refused = {("one", str(one)) for one in many}
    await refusals.slice_refused(part(source=many[0]), error_of())
    assert [app for app, _ in service.asked] == ["one"] * 4 + ["two"]


async def test_an_answer_about_a_call_resolves_only_calls_of_its_app_id(refusals, disk):
    for app in ("one", "two"):
        await refusals.call_refused(await call(disk, app, f"call of {app}"), error_of())
    await refusals.call_answered("one", 0)
    assert left(disk) == {"call of one"}
    await refusals.resolve()
    assert left(disk) == {"call of one", "call of two"}


async def test_all_details_are_skipped_if_the_plan_refuses_them_and_none_was_answered(refusals, disk):
    for name in ("a", "b"):
        await refusals.call_refused(await call(disk, "one", name), error_of("access"))
    await refusals.resolve()
    assert (refusals.is_skipped("one", DETAILS), left(disk)) == (True, set())


@pytest.mark.parametrize("heard", [True, False])
async def test_details_are_not_skipped_if_one_was_answered_or_refused_for_another_reason(refusals, disk, heard):
    if heard:
        await refusals.call_answered("one", 0)
    await refusals.call_refused(await call(disk, "one", "a"), error_of("access"))
    await refusals.call_refused(await call(disk, "one", "b"), error_of("access" if heard else None))
    await refusals.resolve()
    assert (refusals.is_skipped("one", DETAILS), left(disk)) == (False, {"a", "b"})


@pytest.mark.parametrize("trouble", [TransportError("reset"), RateLimited("too fast", **ABOUT)], ids=["reset", "haste"])
async def test_a_failed_probe_is_retried_before_it_counts_against_an_app_id(refusals, service, trouble):
    service.trouble = [trouble] * 2
    await refusals.slice_refused(part(), error_of())
    assert refusals.is_slice_skipped(part())
    assert not refusals.is_skipped("one", "room")
    assert service.asked == [("one", "room")] * 3


async def test_an_app_id_whose_sources_are_all_skipped_is_not_skipped_for_a_call(service, disk):
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    apps = {"one": service.of("one")}
    refusals = RefusalClassifier(session, disk, RetryingFetcher(None), apps, by_name([ROOM, HALL]))
    for source in (ROOM, HALL):  # each is refused at its time
        service.refused = {("one", str(source))}
        await refusals.slice_refused(part(source=source), error_of())
    await refusals.call_refused(await call(disk, "one", "a"), error_of())
    await refusals.resolve()
    assert left(disk) == {"a"}
    await refusals.call_refused(await call(disk, "one", "b"), Unauthorized("no", **ABOUT))
    with pytest.raises(Unauthorized):
        await refusals.resolve()


async def test_refused_calls_of_another_app_id_cost_one_probe_after_the_details_of_one_are_skipped(
    refusals, service, disk
):
    for number in range(8):
        await refusals.call_refused(await call(disk, "one", f"{number}"), error_of("access"))
    assert (refusals.is_skipped("one", DETAILS), refusals.unresolved) == (True, [])
    before = len(service.asked)
    for number in range(8):
        await refusals.call_refused(await call(disk, "two", f"other {number}"), error_of())
    assert len(service.asked) == before + 1
    assert len(left(disk)) == 8


async def test_if_every_probe_fails_that_failure_ends_the_run_and_not_the_refusal(refusals, service, disk):
    service.trouble = [TransportError("reset") for _ in range(200)]
    await refusals.call_refused(await call(disk, "one", "a"), error_of())
    with pytest.raises(TransportError):
        await refusals.resolve()
    assert (refusals.is_skipped("one", APP), left(disk)) == (False, set())


async def test_a_rate_limited_probe_is_not_delayed_for_hours(refusals, service):
    late = RateLimited("too fast", **ABOUT)
    late.retry_after = 3_600.0
    service.trouble = [late] * 3
    began = asyncio.get_running_loop().time()
    await refusals.slice_refused(part(), error_of())
    assert asyncio.get_running_loop().time() - began < 120
