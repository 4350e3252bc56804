"""Spans beyond retention are reported as expired in every dataset, and cost the same for any length."""

from __future__ import annotations

import pytest
from helpers.export_files import rows
from helpers.export_runs import DAY, HOUR, NOON, export, remove_rate_limits, request_count

from agora_analytics import Insight, Selection, Series
from agora_analytics.export.state.export_state import ExportState

SERIES = Series("userCount", product="Native")
DATASETS = {
    "calls": {},
    "insights": {"insights": [Insight("userCount", granularity="1h")]},
    "insights by": {"insights": [Insight("audioFreezeRate", product="Native", dimension="country")]},
    "realtime": {"series": [SERIES]},
}
EVERY_DATASET = pytest.mark.parametrize("what", DATASETS)


def selection_of(what: str, start: int, end: int) -> Selection:
    return Selection(start, end, datasets=(what.split(maxsplit=1)[0],), **DATASETS[what])


@pytest.mark.slow_except(
    "to now-40 days-calls", "to now-40 days-insights", "to the far future-1970-insights by", "to now-1970-realtime"
)
@EVERY_DATASET
@pytest.mark.parametrize(
    "back", [40 * DAY, pytest.param(25 * 365 * DAY, marks=pytest.mark.slow), NOON], ids=["40 days", "25 years", "1970"]
)
@pytest.mark.parametrize("end", [NOON, 10**10], ids=["to now", "to the far future"])
async def test_spans_beyond_retention_are_expired_and_cost_no_extra_request(
    tmp_path, simulation, monkeypatch, what, back, end
):
    remove_rate_limits(simulation)
    all_added, add = [], ExportState.add_slices

    def record_slices(self: ExportState, app, source, slices, **more) -> None:
        added = list(slices)
        all_added.extend(added)
        add(self, app, source, added, **more)

    monkeypatch.setattr(ExportState, "add_slices", record_slices)
    start = (NOON - back) // DAY * DAY
    report = await export(simulation, selection_of(what, start, end), tmp_path)
    assert not report.complete
    (skipped,) = report.skipped
    limits = simulation.service.plan.limits[{"calls": "call_lists", "realtime": "realtime"}.get(what, "insight_usage")]
    assert (skipped.reason, skipped.span.start) == ("expired", start)
    assert 0 <= skipped.span.end - (NOON - limits.retention) <= DAY + HOUR
    assert len(all_added) < 80
    before = request_count(simulation)
    assert before < 80
    assert rows(tmp_path, what.split()[0])
    again = await export(simulation, selection_of(what, start, end), tmp_path)
    assert again.skipped[0].span.start == start
    assert request_count(simulation) - before < 40


@EVERY_DATASET
async def test_an_estimate_reports_what_has_expired_of_every_dataset(simulation, what):
    remove_rate_limits(simulation)
    async with simulation.client(quotas=False) as client:
        for end in (NOON, NOON - 30 * DAY):
            estimate = await client.export.estimate(selection_of(what, NOON - 40 * DAY, end))
            (skipped,) = [one for one in estimate.expired if one.reason == "expired"]
            assert skipped.span.start == NOON - 40 * DAY
            assert skipped.span.end <= end


@pytest.mark.slow_except("insights by", "insights", "realtime")
@EVERY_DATASET
async def test_data_kept_longer_than_the_plan_says_is_exported_from_long_spans(tmp_path, simulation, what):
    remove_rate_limits(simulation)
    documented = simulation.service.plan
    for table, limits in documented.limits.items():
        longer = 6 * HOUR if table == "realtime" else 60 * DAY
        simulation.service.plan = simulation.service.plan.with_limits(table, retention=max(limits.retention, longer))
    start, end = (NOON - 3 * HOUR, NOON - 600) if what == "realtime" else (NOON - 35 * DAY, NOON - 20 * DAY)
    start, end = (start, end) if what == "realtime" else (start // DAY * DAY, end // DAY * DAY)
    for name, plan in (("right", simulation.service.plan), ("wrong", documented)):
        async with simulation.client(quotas=False, plan=plan) as client:
            report = await client.export.run(selection_of(what, start, end), tmp_path / name, format="jsonl")
        assert report.complete
    assert rows(tmp_path / "right", what.split()[0]) == rows(tmp_path / "wrong", what.split()[0])
