"""Regression tests: failures during or between runs, each of which once lost or corrupted data."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.export_files import rows
from helpers.export_runs import DAY, HOUR, NOON, export, last_hours, remove_rate_limits, request_count, revoked_after
from helpers.wrong_dates import Tampering

from agora_analytics import ExportError, Insight, Plan, Selection, Unauthorized
from agora_analytics.simulator import Fault, Faults, Service, Simulation, Variants


async def test_staged_rows_of_a_failed_run_are_written_by_the_next_run(tmp_path, simulation):
    remove_rate_limits(simulation)
    before = Selection(NOON - 5 * HOUR, NOON - 2 * HOUR, datasets=("calls", "sessions"))
    longer = attrs.evolve(before, start=NOON - 5 * HOUR, end=NOON - 600)
    await export(simulation, before, tmp_path / "died")
    refused = request_count(simulation) + 6
    simulation.faults = revoked_after(refused)
    with pytest.raises(Unauthorized):
        await export(simulation, longer, tmp_path / "died", concurrency=1)
    simulation.faults = Faults()
    report = await export(simulation, longer, tmp_path / "died")
    await export(simulation, longer, tmp_path / "whole")
    for name in ("calls", "sessions"):
        assert rows(tmp_path / "died", name) == rows(tmp_path / "whole", name)
        assert report.rows[name] == len(rows(tmp_path / "died", name))


async def test_an_outage_right_after_a_wait_until_midnight_is_retried_until_it_ends(tmp_path, simulation):
    simulation.service.plan = Plan.of("enterprise").with_limits("call_details", per_day=12)
    midnight = NOON // DAY * DAY + DAY
    simulation.faults = Faults.outage(midnight - 5, midnight + 60, Fault("status", status=503))
    report = await export(simulation, last_hours(2, "sessions"), tmp_path, quotas=True)
    assert report.complete
    assert simulation.service.clock() > midnight


@pytest.mark.parametrize(("seconds", "logged"), [(3, False), (60, True), (700, True)])
async def test_only_a_long_outage_is_logged_while_it_is_retried(tmp_path, simulation, caplog, seconds, logged):
    simulation.faults = Faults.outage(NOON, NOON + seconds, Fault("status", status=503))
    report = await export(simulation, last_hours(2, "calls"), tmp_path)
    assert report.complete
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert any("503" in text and "retrying in" in text for text in warned) is logged


async def test_a_list_that_expires_while_it_waits_for_quota_is_reported(tmp_path, simulation):
    simulation.service.plan = Plan.of("enterprise").with_limits(
        "call_lists", per_day=3, retention=DAY, longest=3 * HOUR
    )
    report = await export(
        simulation, Selection(NOON - DAY + 60, NOON - 600, datasets=("calls",)), tmp_path, quotas=True
    )
    assert {(one.what, one.reason) for one in report.skipped} == {("calls", "expired")}
    assert rows(tmp_path, "calls")


async def test_calls_that_appear_late_between_two_pages_are_exported_by_a_later_run(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.world = attrs.evolve(simulation.world, calls_per_hour=150.0)
    simulation.service.variants = Variants(late_calls=0.5)
    selection = Selection(NOON - 2 * HOUR, NOON + HOUR, datasets=("calls",))
    await export(simulation, selection, tmp_path / "late", max_requests=1)
    await asyncio.sleep(HOUR)
    for _ in range(8):
        await export(simulation, selection, tmp_path / "late", max_requests=1)
    await asyncio.sleep(HOUR)
    await export(simulation, selection, tmp_path / "late")
    await export(simulation, selection, tmp_path / "fresh")
    assert len(rows(tmp_path / "fresh", "calls")) > 200
    assert rows(tmp_path / "late", "calls") == rows(tmp_path / "fresh", "calls")


async def test_an_export_resumes_after_the_plan_is_corrected(tmp_path, simulation):
    remove_rate_limits(simulation)
    generous = simulation.service.plan
    simulation.service.plan = generous.with_limits("call_lists", longest=2 * HOUR)
    async with simulation.client(plan=generous, quotas=False) as client:
        with pytest.raises(Exception, match="limit"):
            await client.export.run(last_hours(8, "calls"), tmp_path, format="jsonl")
    report = await export(simulation, last_hours(8, "calls"), tmp_path)
    assert report.complete
    assert report.rows["calls"] > 50


async def test_insights_by_a_dimension_have_whole_days_after_the_span_grows(tmp_path, simulation):
    remove_rate_limits(simulation)
    one = Insight("audioFreezeRate", product="Native", dimension="country")
    short = Selection(NOON - 10 * DAY, NOON - 6 * DAY, datasets=("insights",), insights=[one])
    longer = attrs.evolve(short, start=NOON - 10 * DAY, end=NOON - 4 * DAY)
    await export(simulation, short, tmp_path / "grown")
    await export(simulation, longer, tmp_path / "grown")
    await export(simulation, longer, tmp_path / "fresh")
    assert rows(tmp_path / "grown", "insights") == rows(tmp_path / "fresh", "insights")


def make_calls_invalid(document: dict[str, Any]) -> None:
    for call, change in zip(document.get("call_lists") or (), INVALID_FIELDS, strict=False):
        call.update(change)


def repeat_first_page(list_name: str):
    """Return a change of answers: always the first page, and always with more rows to come."""
    pages: list[Any] = []

    def change(document: dict[str, Any]) -> None:
        if list_name in document:
            pages.append(document[list_name])
            document |= {list_name: pages[0], "has_more": True}

    return change


INVALID_FIELDS: tuple[dict[str, Any], ...] = (
    {"created_ts": None, "destroyed_ts": None},
    {"created_ts": -1},
    {"destroyed_ts": 4_000_000_000},
    {"created_ts": NOON * 1_000, "destroyed_ts": NOON * 1_000 + 5},
    {"call_pcu": 2**70},
    {"call_pcu": -5},
    {"finished": None, "destroyed_ts": None},
    {"finished": None},
    {"call_audio_freeze_rate": 1e308},
)


async def test_invalid_calls_are_reported_and_delay_nothing(tmp_path, simulation):
    remove_rate_limits(simulation)
    loop = asyncio.get_running_loop()
    transport = Tampering(simulation.transport(), make_calls_invalid)
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last_hours(2, "calls", "sessions"), tmp_path, format="jsonl")
    assert loop.time() < 600
    assert {one.reason: one.calls for one in report.skipped} == {
        "without a start or an end": 3,
        "its end is in the future": 1,
        "does not fit the reference: expected a whole number, got a number of more than 64 bits"
        " at $.call_lists[4].call_pcu": None,
        "does not fit the reference: a time that is no date, null here": None,
    }
    assert report.unfinished == 1
    calls = rows(tmp_path, "calls")
    assert len({row[1] for row in rows(tmp_path, "sessions")}) == len(calls) - 5


@pytest.mark.slow_except("3600", "34560000")
@pytest.mark.parametrize("ahead", [HOUR, 20 * HOUR, 400 * DAY])
async def test_details_of_a_call_that_ends_in_the_future_are_left_to_the_next_run(tmp_path, simulation, whole, ahead):
    """Such an end must be wrong, and waiting for it would delay all other rows."""
    found, _, _ = await whole(last_hours(1))
    wrong_call = found["calls"][0][1]

    def end_later(document: dict[str, Any]) -> None:
        for call in document.get("call_lists") or ():
            if call["call_id"] == wrong_call:
                call["destroyed_ts"] = NOON + ahead

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), end_later)) as client:
        for _ in range(2):
            report = await client.export.run(last_hours(1), tmp_path / "rest", format="jsonl")
            (skipped,) = report.skipped
            assert (skipped.what, skipped.reason, skipped.call_ids) == (
                "details",
                "its end is in the future",
                (wrong_call,),
            )
            assert (skipped.again, report.pending) == (True, 0)
    assert loop.time() - began < 300
    assert rows(tmp_path / "rest", "sessions") == [row for row in found["sessions"] if row[1] != wrong_call]


def make_numbers_unreadable(document: dict) -> None:
    """Make a number of one call, of one session and of one sample of each answer unreadable."""
    for call in document.get("call_lists", [])[:1]:
        call["call_acu"] = "many"
    for session in document.get("call_info", [])[:1]:
        session["join_ts"] = "early"
    for track in [track for one in document.get("metrics", []) for track in one["data"]][:1]:
        track["kvs"][0] = ["then", 1]


async def test_bad_rows_are_in_the_report_and_in_the_manifest(tmp_path, simulation):
    remove_rate_limits(simulation)
    transport = Tampering(simulation.transport(), make_numbers_unreadable)
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last_hours(1), tmp_path, format="jsonl")
    skipped = {one.what: (one.rows, one.reason) for one in report.skipped}
    assert set(skipped) == {"call_lists", "call_sessions", "call_metrics"}, report.skipped  # no other reason
    assert skipped["call_lists"][1] == (
        "does not fit the reference: expected a number, got 'many' at $.call_lists[0].call_acu"
    )
    assert skipped["call_sessions"][1].endswith("got 'early' at $.call_info[0].join_ts")
    assert "got 'then' at $.metrics[0].data[0].kvs[0][0]" in skipped["call_metrics"][1]
    world = len(simulation.world.calls(NOON - HOUR, NOON - 600))
    assert len(rows(tmp_path, "calls")) + skipped["call_lists"][0] == world
    assert not report.complete
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["complete"] is False
    assert {one["what"]: one["rows"] for one in manifest["skipped"]} == {what: one[0] for what, one in skipped.items()}
    again = await export(simulation, last_hours(1), tmp_path)
    assert again.skipped == report.skipped  # later runs report it too


async def test_reading_an_endless_list_stops_once_its_total_is_reached(tmp_path, simulation):
    remove_rate_limits(simulation)
    transport = Tampering(simulation.transport(), repeat_first_page("call_lists"))
    async with simulation.client(quotas=False, transport=transport) as client:
        report = await client.export.run(last_hours(1, "calls"), tmp_path, format="jsonl")
    assert report.complete
    assert request_count(simulation) == 2
    expected = simulation.world.calls(NOON - HOUR, NOON - 600)
    assert {row[1] for row in rows(tmp_path, "calls")} == {call.call_id for call in expected}


async def test_a_call_with_an_endless_list_of_sessions_is_skipped_and_reported(tmp_path, simulation):
    remove_rate_limits(simulation)
    transport = Tampering(simulation.transport(), repeat_first_page("call_info"))
    async with simulation.client(quotas=False, transport=transport) as client:
        selection = last_hours(1, "sessions", finished=True)
        report = await client.export.run(selection, tmp_path, format="jsonl", concurrency=1)
    assert {one.reason for one in report.skipped} == {"IncompleteList"}
    assert request_count(simulation) < 200


async def test_a_garbled_answer_skips_a_call_for_one_run_only(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = last_hours(1, "sessions", "metrics", mids={20001})
    await export(simulation, selection, tmp_path / "whole")
    simulation.faults = Faults.script([*[None] * (request_count(simulation) + 6), Fault("garbage")])
    first = await export(simulation, selection, tmp_path / "spoilt", concurrency=1)
    assert [one.reason for one in first.skipped] == ["DecodeError"]
    assert (await export(simulation, selection, tmp_path / "spoilt")).complete
    for name in ("sessions", "metrics"):
        assert rows(tmp_path / "spoilt", name) == rows(tmp_path / "whole", name)


@pytest.mark.parametrize("ahead", [30.0, -30.0])
async def test_an_export_completes_with_a_wrong_host_clock(tmp_path, world, ahead):
    loop = asyncio.get_running_loop()
    service = Service(world, clock=lambda: NOON + loop.time())
    simulation = Simulation(service)
    async with simulation.client(clock=lambda: NOON + ahead + loop.time()) as client:
        report = await client.export.run(
            Selection(NOON - HOUR, NOON + 1_000, datasets=("calls",)), tmp_path, format="jsonl"
        )
    assert report.complete
    assert rows(tmp_path, "calls")


# The writer process


def environment(process: subprocess.Popen[bytes]) -> str:
    """Return the environment of a process; it reads as empty until the process has executed its program."""
    while not (found := Path(f"/proc/{process.pid}/environ").read_text()):
        assert process.poll() is None
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_the_writer_process_gets_no_secret_and_ends_with_the_export(tmp_path, simulation, started, monkeypatch):
    remove_rate_limits(simulation)
    monkeypatch.setenv("AGORA_CUSTOMER_SECRET", "not-to-be-seen")
    environments = []
    transport = Tampering(simulation.transport(), lambda _: environments.append(environment(started[0])))
    async with simulation.client(quotas=False, transport=transport) as client:
        await client.export.run(last_hours(1, "calls"), tmp_path, format="csv")
    assert [process.returncode for process in started] == [0]
    assert "PATH=" in environments[0]
    assert "not-to-be-seen" not in "".join(environments)
    assert not any("secret" in str(argument).lower() for process in started for argument in process.args)


@pytest.mark.slow_except("jsonl")
@pytest.mark.parametrize("form", ["jsonl", "sqlite", "duckdb"])
async def test_an_export_whose_writer_processes_all_die_resumes_without_a_request(
    tmp_path, simulation, started, whole, form, monkeypatch
):
    expected, _, _ = await whole()
    started.clear()
    start = subprocess.Popen

    def start_and_kill(*arguments, **settings):
        process = start(*arguments, **settings)
        process.kill()
        return process

    with monkeypatch.context() as patched:

        def kill(_: object) -> None:
            started[0].kill()
            patched.setattr(subprocess, "Popen", start_and_kill)

        async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), kill)) as client:
            with pytest.raises(ExportError, match=r"signal 9.*\n?.*run the same export again") as error:
                await client.export.run(last_hours(3), tmp_path / "killed", format=form)
    assert len(started) == 3  # two that all exports share, and one of its own
    assert error.value.kind == "writer"
    before = request_count(simulation)
    report = await export(simulation, last_hours(3), tmp_path / "killed", format=form)
    assert report.complete
    assert {name: rows(tmp_path / "killed", name) for name in expected} == expected
    assert request_count(simulation) == before


@pytest.mark.slow
async def test_an_export_writes_in_its_own_process_if_python_cannot_be_started(
    tmp_path, simulation, started, whole, monkeypatch
):
    expected, _, _ = await whole()
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    await export(simulation, last_hours(3), tmp_path / "frozen")
    assert {name: rows(tmp_path / "frozen", name) for name in expected} == expected
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python-that-is-not-there"))
    await export(simulation, last_hours(3), tmp_path / "missing")
    assert {name: rows(tmp_path / "missing", name) for name in expected} == expected
    assert len(started) == 1


async def test_an_export_that_is_cancelled_while_it_starts_leaves_no_process(tmp_path, simulation, started):
    remove_rate_limits(simulation)
    run = asyncio.create_task(export(simulation, last_hours(1, "calls"), tmp_path, format="duckdb"))
    while not started:  # noqa: ASYNC110 - another thread starts the process
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert request_count(simulation) == 0
    assert [process.returncode for process in started] == [0]


async def test_a_state_belongs_to_one_place(tmp_path, simulation):
    remove_rate_limits(simulation)
    state = tmp_path / "state"
    async with simulation.client(quotas=False) as client:
        run = client.export.run
        await run(last_hours(1, "calls"), f"memory://{tmp_path.name}/a", format="jsonl", state=state)
        with pytest.raises(ExportError, match="place"):
            await run(last_hours(1, "calls"), f"memory://{tmp_path.name}/b", format="jsonl", state=state)
        with pytest.raises(ValueError, match=r"state=.* goes with a URL"):
            await run(last_hours(1, "calls"), tmp_path / "local", format="jsonl", state=state)


@pytest.mark.parametrize("prefix", ["", "simplecache::"])
async def test_no_password_of_a_url_is_in_an_error(tmp_path, simulation, prefix):
    url = f"{prefix}ftp://alice:s3cret%20pw@127.0.0.1:1/x"
    async with simulation.client() as client:
        with pytest.raises((ExportError, ValueError)) as error:
            await client.export.run(last_hours(1, "calls"), url, format="jsonl", state=tmp_path)
    shown = f"{error.value!r}"
    assert "127.0.0.1:1/x" in shown
    assert not {"alice", "s3cret"} & set(shown.replace(":", " ").replace("/", " ").split())
    assert "s3cret" not in shown
    assert error.value.__cause__ is error.value.__context__ is None


async def test_an_estimate_without_totals_is_not_marked_as_counted(simulation):
    simulation.service.variants = Variants(totals=False)
    simulation.faults = Faults.script([Fault("status", status=502)])
    async with simulation.client() as client:
        estimate = await client.export.estimate(last_hours(20, "calls"))
    assert not estimate.counted
    assert estimate.calls > 50
