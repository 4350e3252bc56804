"""Documentation: no link is broken, and the reference tables agree with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import attrs
import pytest
from helpers.pages import PAGES, README, ROOT, name_of, rows_below
from helpers.paths import PACKAGE

from agora_analytics import AnalyticsClient, Selection, export, plans
from agora_analytics.cli.serving import ServeSettings
from agora_analytics.simulator.faults import FaultKind
from agora_analytics.streams.postgres_tables import TABLES

OTHER_PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md")]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub builds them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    return not target.exists() or bool(anchor and anchor not in anchors(target))


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=name_of)
def test_every_link_leads_to_an_existing_file_and_heading(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and is_broken(page, link)] == []


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=name_of)
def test_every_page_begins_with_a_sentence_that_says_what_it_is(page):
    """It is the page's line in `llms.txt`."""
    below = page.read_text(encoding="utf-8").partition("\n\n")[2].partition("\n\n")[0]
    sentence = re.split(r"(?<=\.)\s", f"{below}\n")[0]
    assert re.fullmatch(r"[A-Z`*\[][^#|]{25,260}\.", sentence)


def test_the_readme_has_at_most_150_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_is_linked_from_the_index():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page != README]
    assert [page for page in pages if page != "index.md" and f"({page}" not in index] == []


def test_guides_install_the_package_by_its_name_as_an_index_and_a_clone_both_understand():
    pages = [page for folder in ("guides", "reference") for page in (ROOT / "docs" / folder).glob("*.md")]
    from_clone = [page.name for page in pages if re.search(r'pip install "?\.', page.read_text(encoding="utf-8"))]
    assert from_clone == ["deploy.md"]  # it copies files of the clone, too
    assert len(pages) > 30


@pytest.mark.parametrize("dataset", export.DATASETS.values(), ids=lambda dataset: dataset.name)
def test_the_documented_columns_of_a_dataset_are_those_of_its_schema(dataset):
    documented = rows_below("docs/reference/exports.md", f"### {dataset.name}")
    assert documented == [[column.name, column.kind, column.unit, column.meaning] for column in dataset.columns]
    measured = [column for column in dataset.columns if column.kind in {"integer", "number", "time"}]
    assert [column.name for column in measured if not column.unit and column.name != "mid"] == []
    assert f"\nOne row: {dataset.row}.\n" in (ROOT / "docs/reference/exports.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_the_documented_columns_of_a_table_are_those_of_the_sink(name):
    table = TABLES[name]
    documented = rows_below("docs/guides/failover.md", f"### agora_{name}")
    assert [row[:3] for row in documented] == [
        [column, kind, "yes" if column in table.key else "no"] for column, kind in table.columns.items()
    ]


def in_seconds(cell: str) -> int | None:
    """Return a documented duration such as `40 min`; None for an empty cell."""
    number, _, unit = cell.partition(" ")
    return int(number) * {"s": 1, "min": 60, "h": 3_600, "d": 86_400}[unit] if number else None


@pytest.mark.parametrize("plan", [plans.STANDARD, plans.PREMIUM, plans.ENTERPRISE], ids=lambda plan: plan.name)
def test_the_documented_limits_of_a_plan_are_those_of_the_code(plan):
    documented = [
        [name, *figures[:3], *map(in_seconds, figures[3:6]), figures[6]]
        for name, *figures in rows_below("docs/reference/limits.md", f"## {plan.name}")
    ]
    assert documented == [
        [
            name,
            *("" if rate is None else f"{rate:,}" for rate in (limits.per_second, limits.per_minute, limits.per_day)),
            limits.retention,
            limits.longest,
            limits.delay,
            ", ".join(limits.granularities),
        ]
        for name, limits in plan.limits.items()
    ]


def test_the_reference_lists_every_environment_variable_that_the_package_reads():
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    # Typer makes the name of the variable for completion from that of the program.
    variables = set(re.findall(r"\bAGORA_[A-Z_]+[A-Z]\b", code)) - {"AGORA_ANALYTICS_COMPLETE"}
    pages = [ROOT / "docs/reference/configuration.md", ROOT / "docs/guides/serve.md"]
    documented = set(re.findall(r"\bAGORA_[A-Z_]+", "".join(page.read_text(encoding="utf-8") for page in pages)))
    assert len(variables) > 8
    assert variables <= documented
    fields = {field.name.upper() for field in attrs.fields(ServeSettings)}
    assert {f"AGORA_SERVE_{name}" for name in fields} <= documented


def test_the_reference_of_the_simulator_names_every_kind_of_fault():
    page = (ROOT / "docs/reference/simulator.md").read_text(encoding="utf-8")
    assert [kind for kind in get_args(FaultKind) if f"`{kind}`" not in page] == []


def test_the_reference_lists_every_setting_of_a_client_and_of_a_selection():
    settings = set(AnalyticsClient.__init__.__kwdefaults__) | {"plan"}
    assert {row[0] for row in rows_below("docs/reference/configuration.md", "## Client")} == settings
    fields = {field.name for field in attrs.fields(Selection)} - {"start", "end"}
    assert {row[0] for row in rows_below("docs/reference/exports.md", "## What to select")} == fields
