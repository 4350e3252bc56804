"""The dlt source loads each row once, over runs that end early, and asks again only for what may have changed."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from helpers.dlt_warehouse import Warehouse, client_of, pipeline_in
from helpers.export_runs import HOUR, remove_rate_limits, request_count
from helpers.times import NOON

from agora_analytics import Insight, Selection, Unauthorized
from agora_analytics.dlt import agora_source
from agora_analytics.simulator import Fault, Faults, Simulation, Variants, World

dlt = pytest.importorskip("dlt", reason="dlt is not installed: pip install 'dlt>=1.31'")
pytestmark = [
    pytest.mark.real_time,  # dlt runs resources in an event loop and a thread of its own
    # dlt itself calls a deprecated method of logging, and duckdb's own driver warns.
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]

ALL = ("calls", "sessions", "metrics", "statistics", "insights")
DAY = 24 * HOUR
DAILY = (Insight("userCount"), Insight("videoFreezeRate", product="Native", granularity="1h"))


async def test_every_row_is_that_of_an_uninterrupted_read(warehouse):
    warehouse.load("calls", "sessions", "metrics")
    async with warehouse.client() as client:
        calls = [call async for call in client.calls.search(NOON - 2 * HOUR, NOON - 60)]
        sessions = [(call.call_id, one.sid) for call in calls async for one in client.calls.sessions(call)]
        metrics = [one for call in calls async for one in client.calls.metrics(call)]
    assert warehouse.keys("calls", "call_id") == sorted((call.call_id,) for call in calls)
    assert len(calls) > 15
    assert warehouse.keys("sessions", "call_id", "sid") == sorted(sessions)
    assert len(warehouse.rows("metrics")) == sum(len(track.kvs) for one in metrics for track in one.data) > 0


def test_a_second_run_asks_only_for_what_is_new(warehouse):
    warehouse.load("calls", "sessions")
    first, sessions = request_count(warehouse.simulation), warehouse.simulation.service.counts["call_sessions"]
    before = warehouse.rows("sessions")
    assert sessions > 15
    warehouse.load("calls", "sessions")
    assert request_count(warehouse.simulation) - first <= 4
    assert warehouse.simulation.service.counts["call_sessions"] == sessions
    assert warehouse.rows("sessions") == before


@pytest.mark.slow
def test_runs_over_hours_leave_the_rows_of_one_run(warehouse, tmp_path):
    for _ in range(2):
        reports = warehouse.load("calls", "sessions")
        warehouse.clock.ahead += HOUR
    assert all(report.complete for report in reports)
    stepwise = {table: warehouse.rows(table) for table in ("calls", "sessions")}
    at_once = warehouse._replace(pipeline=pipeline_in(tmp_path / "at_once", "at_once"))
    warehouse.clock.ahead -= HOUR
    at_once.load("calls", "sessions")
    assert len(stepwise["calls"]) > 25
    assert {table: at_once.rows(table) for table in stepwise} == stepwise


@pytest.mark.slow
def test_an_open_call_is_asked_for_again_until_it_is_over(warehouse):
    long = World(seed=7, calls_per_hour=12.0, typical_minutes=40.0, long_share=0.0)
    simulation = Simulation(world=long, clock=warehouse.clock)
    remove_rate_limits(simulation)
    warehouse = warehouse._replace(simulation=simulation, client=partial(client_of, simulation))
    reports = warehouse.load("calls")
    still_open = [row for row in warehouse.keys("calls", "call_id", "finished") if not row[1]]
    assert reports[0].pending == len(still_open) > 0
    warehouse.clock.ahead += 12 * HOUR
    warehouse.load("calls")
    finished = dict(warehouse.keys("calls", "call_id", "finished"))
    assert all(finished[call_id] for call_id, _ in still_open)
    assert len(finished) == len(warehouse.rows("calls"))


def in_the_end(warehouse: Warehouse) -> dict[str, int]:
    """Return the calls that the service lists once nothing changes any more, with their ends."""

    async def read() -> dict[str, int]:
        async with warehouse.client() as client:
            found = [call async for call in client.calls.search(NOON - 2 * HOUR, NOON + HOUR)]
        return {call.call_id: call.destroyed_ts or 0 for call in found}

    return asyncio.run(read())


@pytest.mark.slow
@pytest.mark.parametrize("host_ahead", [0, 1_000, -1_000])
def test_calls_that_are_listed_late_come_with_a_later_run(warehouse, host_ahead):
    warehouse.simulation.variants = Variants(late_calls=0.5, late_by=200)
    warehouse.simulation.host_clock.wrong = host_ahead
    counts = []
    for _ in range(5):
        warehouse.load("calls", "sessions")
        counts.append(len(warehouse.rows("calls")))
        warehouse.clock.ahead += HOUR // 4
    assert counts == sorted(set(counts))
    warehouse.clock.ahead += 10 * HOUR
    warehouse.load("calls", "sessions")
    loaded = {call_id: end.timestamp() for call_id, end in warehouse.keys("calls", "call_id", "destroyed_ts")}
    expected = in_the_end(warehouse)
    assert len(expected) > 25
    assert {call_id: loaded.get(call_id) for call_id in expected} == expected
    assert {call_id for (call_id,) in warehouse.keys("sessions", "call_id")} >= set(expected)


def test_a_run_that_is_cut_short_is_reported_and_continued(warehouse, caplog):
    whole: set[int] = set()
    for _ in range(30):
        reports = warehouse.load("sessions", max_requests=15)
        whole.add(len(warehouse.rows("sessions")))
        if reports[0].cut_short is None:
            break
        assert "max_requests=15" in reports[0].cut_short
        assert not reports[0].complete
    assert reports[0].complete
    assert reports[0].pending == 0
    assert len(whole) > 1
    assert "was cut short" in caplog.text
    calls = warehouse.simulation.service.counts["call_sessions"]
    assert len(set(warehouse.keys("sessions", "call_id"))) <= calls
    assert len(warehouse.keys("sessions", "call_id", "sid")) == len(set(warehouse.keys("sessions", "call_id", "sid")))


@pytest.mark.slow
def test_an_outage_cuts_a_run_short_and_keeps_what_was_read(warehouse):
    warehouse.simulation.faults = Faults.script([*[None] * 9, *[Fault("refused")] * 500])
    reports = warehouse.load("sessions")
    assert reports[0].cut_short is not None
    assert "TransportError" in reports[0].cut_short
    assert len(warehouse.keys("sessions", "sid")) > 0
    warehouse.simulation.faults = Faults()
    reports = warehouse.load("sessions")
    assert reports[0].complete
    warehouse.load("calls")
    ended = {call_id for call_id, finished in warehouse.keys("calls", "call_id", "finished") if finished}
    assert {call_id for (call_id,) in warehouse.keys("sessions", "call_id")} == ended


def test_a_spent_quota_cuts_a_run_short_before_a_request_too_many(warehouse):
    plan = warehouse.simulation.service.plan.with_limits("call_details", per_day=12)
    reports = warehouse._replace(client=lambda: client_of(warehouse.simulation, quotas=True, plan=plan)).load(
        "calls", "sessions", max_wait=1
    )
    cut = {report.resource: report.cut_short for report in reports}
    assert cut["calls"] is None
    assert "QuotaExhausted" in cut["sessions"]
    assert warehouse.simulation.service.counts["call_sessions"] <= 12
    assert 0 < len({call_id for (call_id,) in warehouse.keys("sessions", "call_id")}) <= 12
    assert all(report.complete for report in warehouse.load("sessions"))


@pytest.mark.slow
def test_rows_after_the_limit_of_a_user_come_with_the_next_run(warehouse):
    selection = Selection(NOON - 2 * HOUR, NOON, datasets=("calls", "sessions"))
    source = agora_source(selection, client=warehouse.client)
    warehouse.pipeline.run(source.add_limit(2))  # the first is a table without rows
    few = warehouse.rows("sessions")
    warehouse.load("calls", "sessions")
    assert 0 < len(few) < len(warehouse.rows("sessions"))
    ended = {call_id for call_id, finished in warehouse.keys("calls", "call_id", "finished") if finished}
    assert {call_id for (call_id,) in warehouse.keys("sessions", "call_id")} == ended


def test_credentials_that_are_refused_at_once_fail_the_run_and_the_next_one_starts_where_it_did(warehouse):
    warehouse.simulation.faults = Faults.always(Fault("status", status=401))
    with pytest.raises(Exception, match="401") as caught:
        warehouse.load("sessions")
    causes: list[BaseException | None] = [caught.value]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__)
    assert any(isinstance(cause, Unauthorized) for cause in causes)
    warehouse.simulation.faults = Faults()
    reports = warehouse.load("calls", "sessions")
    assert all(report.complete for report in reports)
    ended = {call_id for call_id, finished in warehouse.keys("calls", "call_id", "finished") if finished}
    assert {call_id for (call_id,) in warehouse.keys("sessions", "call_id")} == ended


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("status", status=400), id="400"),
        pytest.param(Fault("refusal", code=404), id="404"),
        pytest.param(Fault("refusal", code=499), id="499"),
    ],
)
def test_a_call_whose_details_are_refused_is_reported_and_stops_nothing(warehouse, fault):
    warehouse.load("calls")
    first = min(call_id for call_id, finished in warehouse.keys("calls", "call_id", "finished") if finished)
    warehouse.simulation.faults = Faults.of_call(first, fault)
    reports = {report.resource: report for report in warehouse.load("sessions")}
    ((_, reason, call_id),) = reports["sessions"].missing
    assert call_id == first
    assert reason
    assert first not in {call_id for (call_id,) in warehouse.keys("sessions", "call_id")}
    assert len(warehouse.rows("sessions")) > 15


def test_a_refusal_of_the_first_calls_fails_the_run_since_the_settings_are_wrong(warehouse):
    warehouse.simulation.faults = Faults.script([None, *[Fault("status", status=400)] * 500])
    with pytest.raises(Exception, match="400"):
        warehouse.load("sessions")


@pytest.mark.slow
def test_insights_of_the_last_days_are_read_again_and_not_doubled(warehouse):
    warehouse.clock.ahead += HOUR // 2  # away from the moment at which another hour is over
    warehouse.load("insights", back=8 * DAY, insights=DAILY)
    before = warehouse.rows("insights")
    assert len(before) > 100
    requests = warehouse.simulation.service.counts["insight_quality"]
    warehouse.load("insights", back=8 * DAY, insights=DAILY)
    after = warehouse.rows("insights")
    # The value of today grows while the test runs.
    assert [row[:7] for row in after] == [row[:7] for row in before]
    assert [row for row in after if not row[-1]] == [row for row in before if not row[-1]]
    assert 0 < warehouse.simulation.service.counts["insight_quality"] - requests < requests + 1
    provisional = {flag for (flag,) in warehouse.keys("insights", "provisional")}
    assert provisional == {True, False}


def test_tables_have_keys_without_nulls_types_and_descriptions(warehouse):
    warehouse.load(*ALL, insights=DAILY[:1])
    tables = warehouse.pipeline.default_schema.tables
    assert tables["insights"]["columns"]["product"]["nullable"] is False
    assert {product for (product,) in warehouse.keys("insights", "product")} <= {""}
    assert tables["calls"]["columns"]["created_ts"]["data_type"] == "timestamp"
    assert tables["metrics"]["columns"]["value"]["data_type"] == "double"
    assert "peak number" in tables["calls"]["columns"]["call_pcu"]["description"]
    keys = {name for name, column in tables["sessions"]["columns"].items() if column.get("primary_key")}
    assert keys == {"app_id", "call_id", "sid"}


@pytest.mark.slow
def test_other_filters_are_read_from_the_start(warehouse):
    warehouse.load("calls", min_freeze_rate=0.5)
    few = len(warehouse.rows("calls"))
    warehouse.load("calls")
    assert few < len(warehouse.rows("calls"))


@pytest.mark.slow
def test_what_has_expired_is_reported_and_costs_no_request(warehouse):
    reports = warehouse.load("calls", back=400 * DAY, max_requests=400)
    ((span, reason, call_id),) = reports[0].missing
    assert (reason, call_id) == ("expired", None)
    assert span.start == NOON - 400 * DAY
    assert not reports[0].complete


def test_wrong_arguments_are_named(warehouse):
    with pytest.raises(TypeError, match="selection"):
        agora_source("calls")
    with pytest.raises(ValueError, match="max_requests=0"):
        agora_source(Selection(1, 2), max_requests=0)
