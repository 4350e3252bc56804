"""The keys and joins that the reference documents hold for the rows of an export."""

from __future__ import annotations

import re

import pytest
from helpers.export_files import rows
from helpers.export_runs import HOUR, NOON, SOME_MIDS, export
from helpers.paths import ROOT
from helpers.streaming import USERS, simulated

from agora_analytics import Insight, Selection
from agora_analytics import export as exports
from agora_analytics.simulator import World

DAY = 24 * HOUR
PAGE = (ROOT / "docs/reference/exports.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (`.*?) \| (?:`(\w+)` by (.*?))? ?\|$", re.MULTILINE)
TABLE = {row[0]: row for row in ROW.findall(PAGE[PAGE.index("## Keys and joins") :])}
SMALL = World(seed=7, calls_per_hour=20, typical_minutes=3.0, long_share=0.0)


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def values(row: dict[str, object], columns: list[str]) -> tuple[object, ...]:
    return tuple(row[column] for column in columns)


def test_every_dataset_has_a_key_of_its_columns():
    assert list(TABLE) == list(exports.DATASETS)
    for dataset, key, other, by in TABLE.values():
        assert set(names(key)) <= set(exports.DATASETS[dataset].names)
        assert not other or set(names(by)) <= set(exports.DATASETS[other].names)


@pytest.fixture
async def exported(tmp_path):
    """Return the rows of an export of all datasets, by dataset."""
    selection = Selection(
        NOON - HOUR // 2 - 600,
        NOON - 600,
        datasets=tuple(exports.DATASETS),
        mids=SOME_MIDS,
        insights=[Insight("userCount"), Insight("videoFreezeRate", product="Native", dimension="country")],
        series=[USERS],
    )
    await export(simulated("enterprise", world=SMALL), selection, tmp_path, quotas=True)
    return {
        name: [dict(zip(dataset.names, row, strict=True)) for row in rows(tmp_path, name)]
        for name, dataset in exports.DATASETS.items()
    }


async def test_keys_are_unique_and_joins_find_their_row(exported):
    for dataset, key, other, by in TABLE.values():
        found = [values(row, names(key)) for row in exported[dataset]]
        assert len(found) == len(set(found)) > 0, dataset
        if other:
            targets = {values(row, names(by)) for row in exported[other]}
            assert {values(row, names(by)) for row in exported[dataset]} <= targets
