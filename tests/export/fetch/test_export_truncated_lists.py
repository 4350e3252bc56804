"""Exports from a service that truncates its lists: every row is exported, or what is missing is reported."""

from __future__ import annotations

import pytest
from helpers.export_files import rows
from helpers.export_runs import HOUR, NOON, remove_rate_limits, request_count
from helpers.wrong_dates import Tampering

from agora_analytics import Selection, Span
from agora_analytics.plans import ENTERPRISE
from agora_analytics.simulator import CallChange, Simulation, Variants, World

BUSY = World(seed=7, calls_per_hour=600, typical_minutes=2, long_share=0.0, large_share=0.0)
CROWDED = World(seed=7, calls_per_hour=9_000, typical_minutes=1, long_share=0.0, large_share=0.0)
LARGE = World(seed=7, calls_per_hour=6, typical_minutes=10, long_share=0.0, large_share=1.0)
START, END = NOON - 2 * HOUR, NOON - 600


def simulate(clock, world: World = BUSY, **variants) -> Simulation:
    simulation = Simulation(world=world, plan=ENTERPRISE, clock=clock, variants=Variants(**variants))
    remove_rate_limits(simulation)
    return simulation


async def export(simulation, folder, *datasets: str, span=(START, END), **options):
    async with simulation.client(quotas=False) as client:
        return await client.export.run(
            Selection(*span, datasets=datasets or ("calls",)), folder, format="jsonl", **options
        )


def world_ids(world: World, start: int, end: int) -> list[str]:
    return sorted(call.call_id for call in world.calls(start, end))


def exported_ids(folder) -> list[str]:
    return sorted(row[1] for row in rows(folder, "calls"))


@pytest.mark.slow_except("refused", "repeated")
@pytest.mark.parametrize("beyond", ["empty", "refused", "repeated", "ended"])
async def test_an_export_of_a_truncated_list_has_all_calls_and_reports_extra_requests(tmp_path, clock, beyond):
    simulation = simulate(clock, max_rows=200, beyond=beyond)
    report = await export(simulation, tmp_path)
    assert exported_ids(tmp_path) == world_ids(BUSY, START, END)
    assert report.complete
    assert 0 < report.narrowed < report.requests == request_count(simulation) < 20


@pytest.mark.parametrize("variants", [{"calls_overlap": True}, {"has_more": False}, {"turning": "never"}], ids=str)
async def test_an_export_of_a_truncated_list_has_all_calls_in_every_service_variant(tmp_path, clock, variants):
    report = await export(simulate(clock, **{"max_rows": 200, **variants}), tmp_path)
    assert set(world_ids(BUSY, START, END)) <= set(exported_ids(tmp_path))
    assert len(set(exported_ids(tmp_path))) == len(exported_ids(tmp_path))
    assert report.complete


async def test_a_list_that_is_not_truncated_costs_no_extra_request(tmp_path, clock):
    simulation = simulate(clock)
    report = await export(simulation, tmp_path)
    assert (report.narrowed, report.requests) == (0, -(-len(world_ids(BUSY, START, END)) // 100))


@pytest.mark.slow_except("1", "5", "11")
@pytest.mark.parametrize("max_requests", range(1, 12))
async def test_an_export_of_a_truncated_list_resumes_wherever_it_stopped(tmp_path, clock, max_requests):
    simulation = simulate(clock, max_rows=200, beyond="refused")
    await export(simulation, tmp_path, max_requests=max_requests)
    report = await export(simulation, tmp_path)
    assert exported_ids(tmp_path) == world_ids(BUSY, START, END)
    assert report.complete


async def test_a_span_still_truncated_at_one_second_is_reported_and_requested_again(tmp_path, clock):
    second = next(
        Span(at, at + 1)
        for at in range(START, END)
        if len(found := [call.cname for call in CROWDED.calls(at, at + 1)]) > 3 and found[0] not in found[1:]
    )
    count = len(world_ids(CROWDED, *second))
    simulation = simulate(clock, CROWDED, max_rows=count - 1)
    report = await export(simulation, tmp_path, span=second)
    ((what, reason, span),) = [(one.what, one.reason, one.span) for one in report.skipped]
    assert (what, reason, span) == ("calls", "truncated", second)
    assert not report.complete
    assert len(exported_ids(tmp_path)) == count - 1
    simulation.variants = Variants()
    assert (await export(simulation, tmp_path, span=second)).complete
    assert exported_ids(tmp_path) == world_ids(CROWDED, *second)


async def test_an_export_of_truncated_lists_of_sessions_has_all_sessions(tmp_path, clock):
    whole, cut = (
        simulate(clock, LARGE, sessions_overlap=False),
        simulate(clock, LARGE, sessions_overlap=False, max_rows=100),
    )
    await export(whole, tmp_path / "whole", "calls", "sessions")
    report = await export(cut, tmp_path / "cut", "calls", "sessions")
    assert sorted(rows(tmp_path / "cut", "sessions")) == sorted(rows(tmp_path / "whole", "sessions"))
    assert report.complete
    assert report.narrowed


async def test_a_call_with_an_incomplete_list_of_sessions_is_skipped(tmp_path, clock):
    simulation = simulate(clock, LARGE, turning="never")
    report = await export(simulation, tmp_path, "calls", "sessions")
    assert {one.reason for one in report.skipped} == {"IncompleteList"}
    assert not report.complete


# Rows that are deleted between two pages


async def test_rows_that_move_to_a_page_already_read_are_not_lost(tmp_path, clock):
    simulation = simulate(clock)
    deleted: list[str] = []

    def delete_call(document: dict) -> None:
        if not deleted and document.get("has_more"):
            deleted.append(document["call_lists"][0]["call_id"])
            simulation.variants = Variants(changes=[CallChange(deleted[0], deleted=True)])

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), delete_call)) as client:
        report = await client.export.run(Selection(START, END, datasets=("calls",)), tmp_path, format="jsonl")
    calls = world_ids(BUSY, START, END)
    assert exported_ids(tmp_path) == calls
    assert (report.complete, report.requests) == (True, -(-len(calls) // 100) + 1)


@pytest.mark.parametrize("first_run", [None, 2])
async def test_sessions_that_move_to_a_page_already_read_are_not_lost(tmp_path, clock, first_run):
    simulation = simulate(clock, LARGE)
    await export(simulation, tmp_path / "whole", "sessions")
    pages: list[dict] = []

    def shift_page(document: dict) -> None:
        """Drop the first row of the second page, as if a row of the first page had been deleted meanwhile."""
        if "call_info" not in document:
            return
        if pages and all(one["has_more"] for one in pages):
            document["total_size"] -= 1
        if len(pages) == 1:
            del document["call_info"][0]
        if pages or document["has_more"]:
            pages.append(document)

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), shift_page)) as client:
        sessions, options = Selection(START, END, datasets=("sessions",)), {"format": "jsonl", "concurrency": 1}
        for _ in range(2 if first_run else 0):  # fetch the first page in a run of its own
            if not pages:
                await client.export.run(sessions, tmp_path / "moved", max_requests=first_run, **options)
        assert not first_run or len(pages) == 1
        report = await client.export.run(sessions, tmp_path / "moved", **options)
    assert len(pages) > 1
    assert rows(tmp_path / "moved", "sessions") == rows(tmp_path / "whole", "sessions")
    assert report.complete
