"""Spans that reach back further than the plan keeps: expired in every dataset, and at no more cost for years."""

from __future__ import annotations

import pytest
from helpers.export_files import rows
from helpers.export_runs import DAY, HOUR, NOON, asked, export, free

from agora_analytics import Insight, Selection, Series
from agora_analytics.export.state.export_state import ExportState

SERIES = Series("userCount", product="Native")
DATASETS = {
    "calls": {},
    "insights": {"insights": [Insight("userCount", granularity="1h")]},
    "insights by": {"insights": [Insight("audioFreezeRate", product="Native", dimension="country")]},
    "realtime": {"series": [SERIES]},
}
WHAT = pytest.mark.parametrize("what", DATASETS)


def selected(what: str, start: int, end: int) -> Selection:
    return Selection(start, end, datasets=(what.split(maxsplit=1)[0],), **DATASETS[what])


@WHAT
@pytest.mark.parametrize(
    "back", [40 * DAY, pytest.param(25 * 365 * DAY, marks=pytest.mark.slow), NOON], ids=["40 days", "25 years", "1970"]
)
@pytest.mark.parametrize("end", [NOON, 10**10], ids=["to now", "for ever"])
async def test_spans_beyond_retention_are_expired_and_cost_no_extra_request(
    tmp_path, simulation, monkeypatch, what, back, end
):
    free(simulation)
    noted, add = [], ExportState.add_slices

    def counted(self: ExportState, app, source, slices, **more) -> None:
        mine = list(slices)
        noted.extend(mine)
        add(self, app, source, mine, **more)

    monkeypatch.setattr(ExportState, "add_slices", counted)
    start = (NOON - back) // DAY * DAY
    report = await export(simulation, selected(what, start, end), tmp_path)
    assert not report.complete
    (left,) = report.skipped
    limits = simulation.service.plan.limits[{"calls": "call_lists", "realtime": "realtime"}.get(what, "insight_usage")]
    assert (left.reason, left.span.start) == ("expired", start)
    assert 0 <= left.span.end - (NOON - limits.available) <= DAY + HOUR
    assert len(noted) < 80
    before = asked(simulation)
    assert before < 80
    assert rows(tmp_path, what.split()[0])
    again = await export(simulation, selected(what, start, end), tmp_path)
    assert again.skipped[0].span.start == start
    assert asked(simulation) - before < 40


@WHAT
async def test_an_estimate_reports_what_has_expired_of_every_dataset(simulation, what):
    free(simulation)
    async with simulation.client(quotas=False) as client:
        for end in (NOON, NOON - 30 * DAY):
            plan = await client.export.estimate(selected(what, NOON - 40 * DAY, end))
            (left,) = [one for one in plan.expired if one.reason == "expired"]
            assert left.span.start == NOON - 40 * DAY
            assert left.span.end <= end


@WHAT
async def test_data_kept_longer_than_the_plan_says_is_exported_from_long_spans(tmp_path, simulation, what):
    free(simulation)
    told = simulation.service.plan
    for table, limits in told.limits.items():
        longer = 6 * HOUR if table == "realtime" else 60 * DAY
        simulation.service.plan = simulation.service.plan.with_limits(table, available=max(limits.available, longer))
    start, end = (NOON - 3 * HOUR, NOON - 600) if what == "realtime" else (NOON - 35 * DAY, NOON - 20 * DAY)
    start, end = (start, end) if what == "realtime" else (start // DAY * DAY, end // DAY * DAY)
    for name, plan in (("right", simulation.service.plan), ("wrong", told)):
        async with simulation.client(quotas=False, plan=plan) as client:
            report = await client.export.run(selected(what, start, end), tmp_path / name, format="jsonl")
        assert report.complete
    assert rows(tmp_path / "right", what.split()[0]) == rows(tmp_path / "wrong", what.split()[0])
