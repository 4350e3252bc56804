"""Exports on virtual time, for tests of what reads them; each test module writes its own once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.export_runs import remove_rate_limits
from helpers.times import NOON

from agora_analytics import Breakdown, ExportReport, Insight, Selection
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World

DAY = 86_400
SELECTION = Selection(
    NOON - 4 * DAY,
    NOON - DAY,
    datasets=("calls", "sessions", "metrics", "statistics", "insights"),
    mids={20005, 20011},
    statistics=[Breakdown("audio_freeze_rate", "country"), Breakdown("video_freeze_rate", "country")],
    insights=[Insight("joinSuccessRate", product="Native"), Insight("userCount")],
)
"""Three days of a small project, with all that the questions and reports need."""

CALLS_PER_HOUR = 0.5


def write_export(folder: Path, selection: Selection = SELECTION, **options) -> ExportReport:
    """Export a selection of a simulated project at noon."""
    loop = VirtualLoop()

    async def run() -> ExportReport:
        started = loop.time()
        world = World(seed=5, calls_per_hour=CALLS_PER_HOUR, typical_minutes=3.0, long_share=0.0, large_share=0.0)
        simulation = Simulation(Service(world, clock=lambda: NOON + loop.time() - started))
        remove_rate_limits(simulation)
        async with simulation.client(quotas=False) as client:
            return await client.export.run(selection, folder, process=False, **options)

    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


def write_rows(folder: Path, rows: Mapping[str, Sequence[Mapping[str, Any]]], **manifest: Any) -> Path:
    """Write rows by dataset as the JSON Lines of an export, with a manifest that says it is complete."""
    for name, some in rows.items():
        place = folder / name / "app=a" / "day=2026-11-24"
        place.mkdir(parents=True)
        (place / "part-00001.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in some))
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"complete": True, "skipped": [], **manifest}))
    return folder
