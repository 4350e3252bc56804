"""`RefusalClassifier` finds out by probes what a refusal concerns; here with fake endpoints, without an export."""

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
class FakeSource:
    """A source whose probes request the channel of its name."""

    name: str
    endpoint = CALL_LISTS

    def __str__(self) -> str:
        return self.name

    def probe(self, endpoints: SimpleNamespace, _: str, second: int) -> Probe:
        return Probe(second, partial(endpoints.calls.page, cname=self.name))


ROOM, HALL = FakeSource("room"), FakeSource("hall")


ERROR_FIELDS = {"request": "", "hint": "", "status": 200, "code": 404, "message": "not for you"}


def error_of(kind: str | None = None) -> Exception:
    if kind is None:
        return NotFound("no", **ERROR_FIELDS)
    error = PlanRefused("no", **ERROR_FIELDS)
    error.kind = kind
    return error


class FakeService:
    """Answers and records probes; refuses those of the pairs (App ID, channel) in `refused`."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, str]] = set()
        self.kind: str | None = None
        self.failures: list[Exception] = []
        self.probes: list[tuple[str, str]] = []

    def of(self, app: str) -> SimpleNamespace:
        async def page(*, cname: str) -> object:
            self.probes.append((app, cname))
            if self.failures:
                raise self.failures.pop()
            if (app, cname) in self.refused:
                raise error_of(self.kind)
            return None

        return SimpleNamespace(calls=SimpleNamespace(page=page))


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def state_thread(tmp_path):
    async with StateThread() as state_thread:
        await state_thread.open(lambda: ExportState(tmp_path / "state.db", "folder"))
        yield state_thread


@pytest.fixture
def refusals(service: FakeService, state_thread: StateThread) -> RefusalClassifier:
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    return RefusalClassifier(
        session,
        state_thread,
        RetryingFetcher(None),
        {app: service.of(app) for app in ("one", "two")},
        by_name([ROOM, HALL]),
    )


def pending_slice(app: str = "one", source: FakeSource = ROOM, number: int = 1) -> PendingSlice:
    return PendingSlice(number, app, str(source), Slice(Span(0, 100), 90), page=1, count=0, again=False)


async def pending_call(state_thread: StateThread, app: str, name: str) -> PendingCall:
    await state_thread.change(
        lambda state: state.upsert_call(app, Call(call_id=name, call_pcu=1), Span(5, 9), CallStatus.PENDING, 0.0)
    )
    due = await state_thread.change(lambda state: state.pending(DueFilter(before=10), (app,), ()))
    return next(one for one in due if one.call_id == name)


def skipped_calls(state_thread: StateThread) -> set[str]:
    calls = state_thread.state.calls_for_manifest()
    return {call_id for _, call_id, *_, status, _, _ in calls if status == CallStatus.SKIPPED}


async def test_a_span_that_is_too_long_for_the_plan_ends_the_run_without_a_probe(refusals, service):
    with pytest.raises(PlanRefused):
        await refusals.slice_refused(pending_slice(), error_of("length"))
    assert service.probes == []


async def test_only_the_span_is_skipped_if_its_source_answers_a_probe(refusals, service):
    await refusals.slice_refused(pending_slice(), error_of())
    assert refusals.is_slice_skipped(pending_slice())
    assert not refusals.is_slice_skipped(pending_slice(number=2))
    assert [(one.what, one.span) for one in refusals.skipped(Span(0, 500))] == [("room", Span(0, 90))]


async def test_a_skipped_source_is_not_probed_again(refusals, service):
    service.refused = {("one", "room")}
    await refusals.slice_refused(pending_slice(), error_of())
    assert refusals.is_skipped("one", "room")
    assert not refusals.is_skipped("one", "hall")
    assert not refusals.is_skipped("two", "room")
    before = len(service.probes)
    await refusals.slice_refused(pending_slice(number=2), error_of())
    assert len(service.probes) == before
    assert [(one.what, one.span) for one in refusals.skipped(Span(0, 500))] == [("room", Span(0, 500))]


async def test_an_app_id_is_skipped_if_another_one_answers_and_the_run_ends_if_none_does(refusals, service):
    service.refused = {("one", "room"), ("one", "hall")}
    await refusals.slice_refused(pending_slice(), error_of())
    assert refusals.is_skipped("one", APP)
    assert refusals.apps_with_details() == ["two"]
    service.refused |= {("two", "room"), ("two", "hall")}
    with pytest.raises(NotFound):
        await refusals.slice_refused(pending_slice("two"), error_of())


@pytest.mark.parametrize("kind", ["latency", "length", "range"])
async def test_a_refusal_of_a_span_proves_access_to_its_source(refusals, service, kind):
    service.refused, service.kind = {("one", "room")}, kind
    await refusals.slice_refused(pending_slice(), error_of())
    assert refusals.is_slice_skipped(pending_slice())
    assert not refusals.is_skipped("one", "room")


async def test_a_skipped_span_is_not_reported_again_once_its_source_is_skipped(refusals, service):
    await refusals.slice_refused(pending_slice(), error_of())
    service.refused = {("one", "room")}
    await refusals.slice_refused(pending_slice(number=2), error_of())
    assert [(one.what, one.span) for one in refusals.skipped(Span(0, 500))] == [("room", Span(0, 500))]


async def test_pending_items_that_are_skipped_are_counted(refusals, service, state_thread):
    await state_thread.change(
        lambda state: state.add_slices("one", "room", [Slice(Span(0, 9), 9), Slice(Span(9, 18), 18)])
    )
    await state_thread.change(lambda state: state.add_slices("one", "hall", [Slice(Span(0, 9), 9)]))
    for name in ("a", "b"):
        one = await pending_call(state_thread, "one", name)
        await refusals.call_refused(one, error_of("access"))
    assert await state_thread.change(lambda state: refusals.count_skipped(state, 0)) == 0
    await refusals.resolve()
    assert await state_thread.change(lambda state: refusals.count_skipped(state, 0)) == 2
    service.refused = {("one", "room")}
    await refusals.slice_refused(pending_slice(), error_of())
    assert await state_thread.change(lambda state: refusals.count_skipped(state, 0)) == 4


async def test_refused_calls_stay_pending_if_no_request_is_left_for_a_probe(service, state_thread):
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    refusals = RefusalClassifier(session, state_thread, RetryingFetcher(0), {"one": service.of("one")}, by_name([ROOM]))
    await refusals.call_refused(await pending_call(state_thread, "one", "a"), error_of())
    await refusals.resolve()
    assert (skipped_calls(state_thread), service.probes) == (set(), [])


async def test_a_refused_app_id_costs_few_probes_however_many_sources_it_has(service, state_thread):
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    sources = [FakeSource(f"{number}") for number in range(9)]
    apps = {app: service.of(app) for app in ("one", "two")}
    refusals = RefusalClassifier(session, state_thread, RetryingFetcher(None), apps, by_name(sources))
    service.refused = {("one", str(one)) for one in sources}
    await refusals.slice_refused(pending_slice(source=sources[0]), error_of())
    assert [app for app, _ in service.probes] == ["one"] * 4 + ["two"]


async def test_an_answer_about_a_call_resolves_only_refused_calls_of_its_app_id(refusals, state_thread):
    for app in ("one", "two"):
        await refusals.call_refused(await pending_call(state_thread, app, f"call of {app}"), error_of())
    await refusals.call_answered("one", 0)
    assert skipped_calls(state_thread) == {"call of one"}
    await refusals.resolve()
    assert skipped_calls(state_thread) == {"call of one", "call of two"}


async def test_all_details_are_skipped_if_the_plan_refuses_them_and_none_was_answered(refusals, state_thread):
    for name in ("a", "b"):
        await refusals.call_refused(await pending_call(state_thread, "one", name), error_of("access"))
    await refusals.resolve()
    assert (refusals.is_skipped("one", DETAILS), skipped_calls(state_thread)) == (True, set())


@pytest.mark.parametrize("answered", [True, False])
async def test_details_are_not_skipped_if_one_call_was_answered_or_refused_otherwise(refusals, state_thread, answered):
    if answered:
        await refusals.call_answered("one", 0)
    await refusals.call_refused(await pending_call(state_thread, "one", "a"), error_of("access"))
    await refusals.call_refused(await pending_call(state_thread, "one", "b"), error_of("access" if answered else None))
    await refusals.resolve()
    assert (refusals.is_skipped("one", DETAILS), skipped_calls(state_thread)) == (False, {"a", "b"})


@pytest.mark.parametrize(
    "failure", [TransportError("reset"), RateLimited("too fast", **ERROR_FIELDS)], ids=["reset", "rate limit"]
)
async def test_a_failed_probe_is_retried_before_it_counts_against_an_app_id(refusals, service, failure):
    service.failures = [failure] * 2
    await refusals.slice_refused(pending_slice(), error_of())
    assert refusals.is_slice_skipped(pending_slice())
    assert not refusals.is_skipped("one", "room")
    assert service.probes == [("one", "room")] * 3


async def test_an_app_id_whose_sources_are_all_skipped_is_not_skipped_for_a_refused_call(service, state_thread):
    session = SimpleNamespace(plan=Plan.of("enterprise"), time=SimpleNamespace(utc_second=lambda: NOON))
    apps = {"one": service.of("one")}
    refusals = RefusalClassifier(session, state_thread, RetryingFetcher(None), apps, by_name([ROOM, HALL]))
    for source in (ROOM, HALL):  # one after the other: a probe of the other source is answered
        service.refused = {("one", str(source))}
        await refusals.slice_refused(pending_slice(source=source), error_of())
    await refusals.call_refused(await pending_call(state_thread, "one", "a"), error_of())
    await refusals.resolve()
    assert skipped_calls(state_thread) == {"a"}
    await refusals.call_refused(await pending_call(state_thread, "one", "b"), Unauthorized("no", **ERROR_FIELDS))
    with pytest.raises(Unauthorized):
        await refusals.resolve()


async def test_refused_calls_of_another_app_id_cost_one_probe_after_the_details_of_one_are_skipped(
    refusals, service, state_thread
):
    for number in range(8):
        await refusals.call_refused(await pending_call(state_thread, "one", f"{number}"), error_of("access"))
    assert (refusals.is_skipped("one", DETAILS), refusals.unresolved) == (True, [])
    before = len(service.probes)
    for number in range(8):
        await refusals.call_refused(await pending_call(state_thread, "two", f"other {number}"), error_of())
    assert len(service.probes) == before + 1
    assert len(skipped_calls(state_thread)) == 8


async def test_the_run_ends_with_the_failure_of_the_probes_if_every_probe_fails(refusals, service, state_thread):
    service.failures = [TransportError("reset") for _ in range(200)]
    await refusals.call_refused(await pending_call(state_thread, "one", "a"), error_of())
    with pytest.raises(TransportError):
        await refusals.resolve()
    assert (refusals.is_skipped("one", APP), skipped_calls(state_thread)) == (False, set())


async def test_a_rate_limited_probe_does_not_wait_for_a_long_retry_after(refusals, service):
    error = RateLimited("too fast", **ERROR_FIELDS)
    error.retry_after = 3_600.0
    service.failures = [error] * 3
    began = asyncio.get_running_loop().time()
    await refusals.slice_refused(pending_slice(), error_of())
    assert asyncio.get_running_loop().time() - began < 120
