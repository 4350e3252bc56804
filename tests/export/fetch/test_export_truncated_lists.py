"""An export of a service that truncates its lists: all rows are there, or what is missing is reported."""

from __future__ import annotations

import pytest
from helpers.export_files import rows
from helpers.export_runs import HOUR, NOON, Tampering, asked, free

from agora_analytics import Selection, Span
from agora_analytics.plans import ENTERPRISE
from agora_analytics.simulator import CallChange, Simulation, Variants, World

BUSY = World(seed=7, calls_per_hour=600, typical_minutes=2, long_share=0.0, large_share=0.0)
CROWDED = World(seed=7, calls_per_hour=9_000, typical_minutes=1, long_share=0.0, large_share=0.0)
LARGE = World(seed=7, calls_per_hour=6, typical_minutes=10, long_share=0.0, large_share=1.0)
START, END = NOON - 2 * HOUR, NOON - 600


def served(clock, world: World = BUSY, **variants) -> Simulation:
    simulation = Simulation(world=world, plan=ENTERPRISE, clock=clock, variants=Variants(**variants))
    free(simulation)
    return simulation


async def export(simulation, folder, *datasets: str, span=(START, END), **options):
    async with simulation.client(quotas=False) as client:
        return await client.export.run(
            Selection(*span, datasets=datasets or ("calls",)), folder, format="jsonl", **options
        )


def ids(world: World, start: int, end: int) -> list[str]:
    return sorted(call.call_id for call in world.calls(start, end))


def exported(folder) -> list[str]:
    return sorted(row[1] for row in rows(folder, "calls"))


@pytest.mark.parametrize("beyond", ["empty", "refused", "repeated", "ended"])
async def test_an_export_has_all_calls_of_a_truncated_list_and_reports_the_cost(tmp_path, clock, beyond):
    simulation = served(clock, most_rows=200, beyond=beyond)
    report = await export(simulation, tmp_path)
    assert exported(tmp_path) == ids(BUSY, START, END)
    assert report.complete
    assert 0 < report.narrowed < report.requests == asked(simulation) < 20


@pytest.mark.parametrize("variants", [{"calls_overlap": True}, {"has_more": False}, {"turning": "never"}], ids=str)
async def test_an_export_has_all_calls_in_every_variant_of_the_list(tmp_path, clock, variants):
    report = await export(served(clock, **{"most_rows": 200, **variants}), tmp_path)
    assert set(ids(BUSY, START, END)) <= set(exported(tmp_path))
    assert len(set(exported(tmp_path))) == len(exported(tmp_path))
    assert report.complete


async def test_a_complete_list_costs_no_extra_request(tmp_path, clock):
    simulation = served(clock)
    report = await export(simulation, tmp_path)
    assert (report.narrowed, report.requests) == (0, -(-len(ids(BUSY, START, END)) // 100))


@pytest.mark.parametrize("most", range(1, 12))
async def test_an_export_of_a_truncated_list_resumes_wherever_it_stopped(tmp_path, clock, most):
    simulation = served(clock, most_rows=200, beyond="refused")
    await export(simulation, tmp_path, max_requests=most)
    report = await export(simulation, tmp_path)
    assert exported(tmp_path) == ids(BUSY, START, END)
    assert report.complete


async def test_what_stays_missing_of_a_list_is_reported_and_requested_again(tmp_path, clock):
    second = next(
        Span(at, at + 1)
        for at in range(START, END)
        if len(found := [call.cname for call in CROWDED.calls(at, at + 1)]) > 3 and found[0] not in found[1:]
    )
    count = len(ids(CROWDED, *second))
    simulation = served(clock, CROWDED, most_rows=count - 1)
    report = await export(simulation, tmp_path, span=second)
    ((what, reason, span),) = [(one.what, one.reason, one.span) for one in report.skipped]
    assert (what, reason, span) == ("calls", "cut off", second)
    assert not report.complete
    assert len(exported(tmp_path)) == count - 1
    simulation.variants = Variants()
    assert (await export(simulation, tmp_path, span=second)).complete
    assert exported(tmp_path) == ids(CROWDED, *second)


async def test_an_export_has_all_sessions_of_a_truncated_list(tmp_path, clock):
    whole, cut = (
        served(clock, LARGE, sessions_overlap=False),
        served(clock, LARGE, sessions_overlap=False, most_rows=100),
    )
    await export(whole, tmp_path / "whole", "calls", "sessions")
    report = await export(cut, tmp_path / "cut", "calls", "sessions")
    assert sorted(rows(tmp_path / "cut", "sessions")) == sorted(rows(tmp_path / "whole", "sessions"))
    assert report.complete
    assert report.narrowed


async def test_a_call_with_an_incomplete_list_of_sessions_is_skipped(tmp_path, clock):
    simulation = served(clock, LARGE, turning="never")
    report = await export(simulation, tmp_path, "calls", "sessions")
    assert {one.reason for one in report.skipped} <= {"IncompleteList"}
    assert bool(report.skipped) is not report.complete


# Rows that vanish between two pages


async def test_rows_that_move_to_a_page_already_read_are_not_lost(tmp_path, clock):
    simulation = served(clock)
    gone: list[str] = []

    def vanish(document: dict) -> None:
        if not gone and document.get("has_more"):
            gone.append(document["call_lists"][0]["call_id"])
            simulation.variants = Variants(changes=[CallChange(gone[0], deleted=True)])

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), vanish)) as client:
        report = await client.export.run(Selection(START, END, datasets=("calls",)), tmp_path, format="jsonl")
    calls = ids(BUSY, START, END)
    assert exported(tmp_path) == calls
    assert (report.complete, report.requests) == (True, -(-len(calls) // 100) + 1)


@pytest.mark.parametrize("most", [None, 2])
async def test_sessions_that_move_to_a_page_already_read_are_not_lost(tmp_path, clock, most):
    simulation = served(clock, LARGE)
    await export(simulation, tmp_path / "whole", "sessions")
    pages: list[dict] = []

    def vanish(document: dict) -> None:
        """Let the page that follows a first one begin with its second row, as if one of the first had gone."""
        if "call_info" not in document:
            return
        if pages and all(one["has_more"] for one in pages):
            document["total_size"] -= 1
        if len(pages) == 1:
            del document["call_info"][0]
        if pages or document["has_more"]:
            pages.append(document)

    async with simulation.client(quotas=False, transport=Tampering(simulation.transport(), vanish)) as client:
        sessions, options = Selection(START, END, datasets=("sessions",)), {"format": "jsonl", "concurrency": 1}
        for _ in range(2 if most else 0):  # the first page comes in a run of its own
            if not pages:
                await client.export.run(sessions, tmp_path / "moved", max_requests=most, **options)
        assert not most or len(pages) == 1
        report = await client.export.run(sessions, tmp_path / "moved", **options)
    assert len(pages) > 1
    assert rows(tmp_path / "moved", "sessions") == rows(tmp_path / "whole", "sessions")
    assert report.complete
