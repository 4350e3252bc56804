"""A load keeps what it has: through kills, refusals and items that never work, piece by piece."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.dlt_warehouse import SMALL, Warehouse, client_of, selected
from helpers.export_runs import DAY, HOUR, remove_rate_limits, request_count
from helpers.times import NOON

from agora_analytics import AnalyticsClient, Insight
from agora_analytics.dlt import agora_sources, load_reports
from agora_analytics.simulator import Fault, Faults, Simulation, World

dlt = pytest.importorskip("dlt", reason="dlt is not installed: pip install 'dlt>=1.31'")
pytestmark = [
    pytest.mark.real_time,  # dlt runs resources in an event loop and a thread of its own
    # dlt itself calls a deprecated method of logging, and duckdb's own driver warns.
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]

SECRET = "a-secret-that-nothing-may-show"


def ended_calls(warehouse: Warehouse) -> set[str]:
    return {call_id for call_id, finished in warehouse.keys("calls", "call_id", "finished") if finished}


def calls_with_sessions(warehouse: Warehouse) -> set[str]:
    return {call_id for (call_id,) in warehouse.keys("sessions", "call_id")}


def of_world(warehouse: Warehouse, world: World) -> Warehouse:
    """Return the warehouse over another simulation."""
    simulation = Simulation(world=world, clock=warehouse.clock)
    remove_rate_limits(simulation)
    return warehouse._replace(simulation=simulation, client=lambda: client_of(simulation))


# Pieces


@pytest.mark.slow
def test_a_history_is_loaded_in_pieces_each_of_which_is_kept(warehouse):
    rows = []
    for source in agora_sources(selected("sessions", back=5 * HOUR // 4), client=warehouse.client, requests=10):
        warehouse.pipeline.run(source)
        rows.append(len(warehouse.rows("sessions")))
    assert len(rows) > 1
    assert rows[0] < rows[-1]
    assert all(report.complete for report in load_reports(warehouse.pipeline))
    once = warehouse.simulation.service.counts["call_sessions"]
    assert request_count(warehouse.simulation) <= once + 2 * len(rows)
    assert len(calls_with_sessions(warehouse)) == once


@pytest.mark.slow
def test_a_piece_that_was_not_loaded_yet_is_not_lost(warehouse):
    wanted = selected("calls", "sessions", back=HOUR)
    first, second, *_ = agora_sources(wanted, client=warehouse.client, requests=10)
    warehouse.pipeline.run(first)
    warehouse.pipeline.extract(second)
    requests = request_count(warehouse.simulation)
    assert requests > 10
    # The first source is not read now: dlt loads what is on disk in its place.
    for source in agora_sources(wanted, client=warehouse.client):
        warehouse.pipeline.run(source)
    assert calls_with_sessions(warehouse) == ended_calls(warehouse) != set()
    assert request_count(warehouse.simulation) <= len(ended_calls(warehouse)) + 6


def test_sources_that_are_not_run_come_to_an_end(warehouse):
    assert len(list(agora_sources(selected("calls"), client=warehouse.client))) == 2
    with pytest.raises(ValueError, match="requests=9"):
        agora_sources(selected("calls"), requests=9)


@pytest.mark.slow
def test_calls_that_stay_open_are_looked_up_once_in_all_pieces(warehouse):
    warehouse = of_world(warehouse, World(seed=7, calls_per_hour=3.0, typical_minutes=600.0, long_share=0.0))
    warehouse.load("calls", back=24 * HOUR)
    before = request_count(warehouse.simulation)
    pieces = 0
    for source in agora_sources(selected("calls", back=24 * HOUR), client=warehouse.client, requests=10):
        warehouse.pipeline.run(source)
        pieces += 1
    assert 1 < pieces < 10
    assert request_count(warehouse.simulation) - before < 10 * pieces + 5


@pytest.mark.slow
def test_a_list_that_needs_more_requests_than_a_run_may_make_still_gets_on(warehouse):
    busy = World(seed=7, calls_per_hour=300.0, typical_minutes=0.2, long_share=0.0, large_share=0.0)
    warehouse = of_world(warehouse, busy)
    for _ in range(12):
        (report,) = warehouse.load("calls", max_requests=3)
        if report.cut_short is None:
            break
    assert report.complete
    assert len(warehouse.rows("calls")) > 500


# Killed and cancelled

LOADING = """
import os, signal, sys
from pathlib import Path
from helpers.dlt_warehouse import open_warehouse, selected
from agora_analytics.dlt import agora_sources

moment, folder = sys.argv[1], Path(sys.argv[2])
warehouse = open_warehouse(folder)
transport = warehouse.simulation.transport()
send, close = transport.send, transport.close

def requests():
    return sum(warehouse.simulation.service.counts.values())

async def dying(request, host=0):
    if moment != "killed between" and requests() >= 25:
        os.kill(os.getpid(), signal.SIGKILL if moment == "killed" else signal.SIGINT)
    return await send(request, host)

async def closing():
    print("closed", flush=True)
    await close()

transport.send, transport.close = dying, closing
sources = agora_sources(
    selected("calls", "sessions"), client=lambda: warehouse.client(transport=transport), requests=10
)
for number, source in enumerate(sources):
    if moment == "killed between" and number == 2:
        warehouse.pipeline.extract(source)
        os.kill(os.getpid(), signal.SIGKILL)
    warehouse.pipeline.run(source)
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("moment", ["killed", "killed between", "interrupted"])
def test_a_process_that_ends_loses_no_more_than_its_piece(warehouse, tmp_path, moment):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", LOADING, moment, str(tmp_path)], capture_output=True, check=False, env=environment
    )
    if moment == "interrupted":
        assert done.returncode != 0, done.stderr.decode()
        assert done.stdout.decode().split()[-1] == "closed"
    else:
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    for source in agora_sources(selected("calls", "sessions"), client=warehouse.client):
        warehouse.pipeline.run(source)
    assert all(report.complete for report in load_reports(warehouse.pipeline))
    sessions = warehouse.keys("sessions", "call_id", "sid")
    assert len(sessions) == len(set(sessions))
    assert calls_with_sessions(warehouse) == ended_calls(warehouse)
    assert request_count(warehouse.simulation) <= len(ended_calls(warehouse)) - 10


@pytest.mark.slow
def test_a_client_is_closed_when_another_resource_fails_the_run(warehouse):
    closed = []

    class Closing:
        def __call__(self) -> AnalyticsClient:
            transport = warehouse.simulation.transport()
            close = transport.close

            async def closing() -> None:
                closed.append(True)
                await close()

            transport.close = closing
            return client_of(warehouse.simulation, transport=transport)

    warehouse.simulation.faults = Faults.always(Fault("status", status=400)).only("call_sessions")
    with pytest.raises(Exception, match="400"):
        warehouse._replace(client=Closing()).load("calls", "sessions")
    assert closed == [True]


# Refused and broken items


def test_an_app_id_that_is_refused_is_reported_and_the_others_are_loaded(warehouse, caplog):
    apps = ["of-another-account", warehouse.simulation.app_id]
    reports = warehouse.load("calls", "sessions", apps=apps)
    assert sorted(bool(report.cut_short) for report in reports) == [False, False, True, True]
    assert all("Unauthorized" in report.cut_short for report in reports if report.cut_short)
    assert calls_with_sessions(warehouse) == ended_calls(warehouse) != set()
    assert "was cut short" in caplog.text
    # Without a new row, too.
    assert sum(bool(report.cut_short) for report in warehouse.load("calls", "sessions", apps=apps)) == 2


@pytest.mark.slow
def test_app_ids_that_are_all_refused_fail_the_run(warehouse):
    with pytest.raises(Exception, match=r"401|403"):
        warehouse.load("calls", apps=["of-another-account", "and-another"])


@pytest.mark.slow
def test_credentials_that_are_revoked_in_a_run_cost_no_row(warehouse):
    warehouse.simulation.faults = Faults.script([*[None] * 9, *[Fault("status", status=401)] * 500])
    (report,) = warehouse.load("sessions")
    assert "Unauthorized" in report.cut_short
    paid = calls_with_sessions(warehouse)
    assert len(paid) == 8
    with pytest.raises(Exception, match="401"):
        warehouse.load("sessions")
    requests = request_count(warehouse.simulation)
    warehouse.simulation.faults = Faults()
    warehouse.load("sessions")
    warehouse.load("calls")
    assert calls_with_sessions(warehouse) == ended_calls(warehouse)
    assert request_count(warehouse.simulation) - requests <= len(ended_calls(warehouse)) - len(paid) + 8


@pytest.mark.slow_except("reset")
@pytest.mark.parametrize(
    "fault", [Fault("status", status=500), Fault("garbage"), Fault("reset")], ids=lambda one: one.kind
)
def test_a_call_that_always_fails_does_not_stop_the_others(warehouse, fault):
    warehouse.load("calls")
    first = min(ended_calls(warehouse))
    warehouse.simulation.faults = Faults.of_call(first, fault)
    for _ in range(2):
        reports = {report.resource: report for report in warehouse.load("calls", "sessions")}
        assert calls_with_sessions(warehouse) == ended_calls(warehouse) - {first}
        assert not reports["sessions"].complete
    warehouse.simulation.faults = Faults()
    warehouse.load("sessions")
    if fault.kind != "garbage":  # that is noted as lost
        assert calls_with_sessions(warehouse) == ended_calls(warehouse)


@pytest.mark.slow
def test_a_list_that_fails_does_not_stop_the_others(warehouse):
    warehouse.simulation.faults = Faults.script([Fault("status", status=500)])
    (report,) = warehouse.load("calls", back=24 * HOUR)
    assert "ServerError" in report.cut_short
    assert report.read[0].start == NOON - 18 * HOUR
    few = len(warehouse.rows("calls"))
    (report,) = warehouse.load("calls", back=24 * HOUR)
    assert report.complete
    assert len(warehouse.rows("calls")) > few > 100


@pytest.mark.slow
def test_a_series_that_is_refused_does_not_stop_the_others(warehouse):
    warehouse.simulation.faults = Faults.always(Fault("refusal", code=400)).only(metric="joinFail")
    series = [Insight("joinFail"), Insight("userCount")]
    reports = warehouse.load("insights", back=8 * DAY, insights=series)
    assert sorted(bool(report.cut_short) for report in reports) == [False, True]
    assert {metric for (metric,) in warehouse.keys("insights", "metric")} == {"userCount"}


@pytest.mark.slow
def test_a_span_without_calls_is_noted_as_read(warehouse):
    empty = attrs.evolve(SMALL, calls_per_hour=0.0)
    warehouse.simulation.service.world = empty
    (report,) = warehouse.load("calls")
    assert report.complete
    assert report.read
    assert warehouse.rows("calls") == []


# Rows


def with_bad_times(warehouse: Warehouse) -> Any:
    """Return what makes clients whose first measurement of each track has a time outside of the calendar."""
    transport = warehouse.simulation.transport()
    send = transport.send

    async def changed(request, host=0):
        response = await send(request, host)
        body = re.sub(rb'("kvs":\s*\[\[)\d+', rb"\g<1>99999999999999", response.body)
        return attrs.evolve(response, body=body)

    transport.send = changed
    return lambda: client_of(warehouse.simulation, transport=transport)


@pytest.mark.slow
def test_measurements_without_a_valid_time_are_reported(warehouse):
    (report,) = warehouse._replace(client=with_bad_times(warehouse)).load("metrics")
    assert len(warehouse.rows("metrics")) > 0
    assert report.missing
    assert not report.complete
    assert all(reason.endswith("without a valid time") for _, reason, _ in report.missing)
    lost = sum(int(reason.split()[0]) for _, reason, _ in report.missing)
    assert lost > 10
    assert {call_id for *_, call_id in report.missing} <= {
        call_id for (call_id,) in warehouse.keys("metrics", "call_id")
    }


@pytest.mark.slow
def test_a_column_of_a_later_version_stays(warehouse):
    warehouse.load("calls")
    with warehouse.pipeline.sql_client() as client:
        client.execute_sql("ALTER TABLE calls ADD COLUMN of_later VARCHAR DEFAULT 'x'")
    warehouse.clock.ahead += HOUR
    (report,) = warehouse.load("calls")
    assert report.complete
    assert {value for (value,) in warehouse.keys("calls", "of_later") if value} == {"x"}


# Credentials


def test_no_credential_gets_into_a_file_a_trace_or_an_error(warehouse, tmp_path, caplog):
    simulation = warehouse.simulation
    simulation.service.customer_secret = SECRET
    client = lambda: client_of(simulation, customer_secret=SECRET)  # noqa: E731
    warehouse = warehouse._replace(client=client)
    warehouse.load("calls", "sessions", max_requests=5)
    shown = [repr(warehouse.pipeline.last_trace.asdict()), str(warehouse.pipeline.default_schema.to_pretty_yaml())]
    warehouse.simulation.faults = Faults.always(Fault("status", status=401))
    with pytest.raises(Exception, match="401") as caught:
        warehouse.load("calls", "sessions")
    shown += [repr(caught.value), str(caught.value), repr(warehouse.pipeline.last_trace.asdict()), caplog.text]
    assert SECRET not in "".join(shown)
    state = repr(warehouse.pipeline.state)
    assert simulation.app_id not in state
    files = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
