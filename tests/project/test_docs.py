"""Documentation: links lead somewhere, and tables of reference say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from helpers.pages import PAGES, README, ROOT, name_of

from agora_analytics import AnalyticsClient, Selection, export, plans

MORE = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    return not target.exists() or bool(anchor and anchor not in anchors(target))


@pytest.mark.parametrize("page", [*PAGES, *MORE], ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and is_broken(page, link)] == []


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_is_linked_from_the_index():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page != README]
    assert [page for page in pages if page != "index.md" and f"({page}" not in index] == []


def rows(page: str, heading: str) -> list[list[str]]:
    """The first table below a heading, without its head, as cells."""
    section = (ROOT / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    table = section[section.index("\n|") :].strip().partition("\n\n")[0]
    return [
        [cell.strip().strip("`") for cell in row.split(" | ")]
        for row in re.findall(r"^\| (.*) \|$", table, re.MULTILINE)[2:]
    ]


@pytest.mark.parametrize("dataset", export.DATASETS.values(), ids=lambda dataset: dataset.name)
def test_the_columns_of_a_dataset_are_those_of_the_code(dataset):
    told = rows("docs/reference/exports.md", f"### {dataset.name}")
    assert [row[:3] for row in told] == [[column.name, column.kind, column.unit] for column in dataset.columns]


@pytest.mark.parametrize("plan", [plans.STANDARD, plans.PREMIUM, plans.ENTERPRISE], ids=lambda plan: plan.name)
def test_the_limits_of_a_plan_are_those_of_the_code(plan):
    told = [[name, *figures[:3], figures[6]] for name, *figures in rows("docs/reference/limits.md", f"## {plan.name}")]
    assert told == [
        [
            name,
            *("" if rate is None else f"{rate:,}" for rate in (limits.per_second, limits.per_minute, limits.per_day)),
            ", ".join(limits.granularities),
        ]
        for name, limits in plan.limits.items()
    ]


def test_every_setting_of_a_client_and_a_selection_is_in_the_reference():
    settings = set(AnalyticsClient.__init__.__kwdefaults__) | {"plan"}
    assert {row[0] for row in rows("docs/reference/configuration.md", "## Client")} == settings
    fields = {field.name for field in attrs.fields(Selection)} - {"start", "end"}
    assert {row[0] for row in rows("docs/reference/exports.md", "## What to select")} == fields
