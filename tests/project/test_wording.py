"""One word for one idea: names and phrases that were replaced do not come back, in code or in texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from helpers.paths import ROOT

FOLDERS = ("agora_analytics", "benchmarks", "deploy", "docs", "examples", "tests")
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "noxfile.py", "pyproject.toml")
KINDS = frozenset({".css", ".html", ".js", ".json", ".md", ".py", ".toml", ".yaml", ".yml"})
VENDORED = frozenset({"uplot.js", "uplot.css"})

NAMES: Mapping[str, str] = {
    # The client
    "with_lane": "with_priority",
    "Lane": "Priority",
    "askable": "queryable",
    "askable_at": "queryable_at",
    "is_askable": "is_queryable",
    "priced": "with_fixed_cost",
    "told": "reported, delivered or expected",
    "_ADVICE": "_HINTS",
    "fruitful": "has_new_rows",
    "fruitless": "lists_without_new_rows",
    # Streams
    "agora_going": "agora_open_calls",
    "allowance=": "allowed_lateness=",
    "asked_at": "requested_at",
    "drill": "with_sessions",
    "look_at": "next_lookup",
    "owed": "pending",
    '"not asked"': '"not requested"',
    "settling": "final_after",
    # Exports
    "ExportPlan": "ExportEstimate",
    "kin": "partition_id",
    "LeftOut": "Skipped",
    "left_out": "skipped",
    "least_users": "min_users",
    "piece BLOB": "payload BLOB",
    "too_small": "below_min_users",
    "upto": "sealed_through",
    "watcher": "on_progress",
    "worse_than": "min_freeze_rate",
    # Operations
    '"ask"': '"params"',
    "LoadDesk": "Loader",
    "OfferView": "QuoteView",
    "PaidApi": "LoadApi",
    "Offer": "LoadButton",
    # The simulator
    "casting": "participants",
    "happenings": "calls",
    "most_rows": "max_rows",
    "Quirks": "Variants",
    "tallies": "usage",
    "untold_ends": "unreported_ends",
}
"""Names that were replaced, and those of today."""

PHRASES: Mapping[str, str] = {
    "anew": "again",
    "is had": "is there",
    "lets go of": "releases, closes",
    "pure machine": "state machine without I/O",
    "pure state machine": "state machine without I/O",
    "to be asked for": "pending",
    "who asks": "caller",
    "who comes": "caller",
    "whoever": "caller",
}
"""Phrases that are not the field's words, and those that are."""


def whole(word: str) -> str:
    """Return what finds a word, or text that begins or ends with other characters such as quotes."""
    edges = [r"\b" if edge.isidentifier() else "" for edge in (word[0], word[-1])]
    return re.escape(word).join(edges)


def used(words: Iterable[str], text: str) -> list[str]:
    """Return the words that occur in a text as whole words."""
    # The text is searched without a pattern first, which takes a hundredth of the time.
    return [word for word in words if word in text and re.search(whole(word), text)]


def texts(*tops: str) -> Iterator[Path]:
    """Return the files with texts in these folders, without this one."""
    found = (path for top in tops for path in (ROOT / top).rglob("*"))
    return (path for path in found if path.suffix in KINDS and path.name not in VENDORED and path != Path(__file__))


def test_no_replaced_name_is_used():
    files = [*texts(*FOLDERS), *(ROOT / name for name in FILES)]
    assert len(files) > 600
    found = {path: used(NAMES, path.read_text(encoding="utf-8")) for path in files}
    assert {str(path.relative_to(ROOT)): words for path, words in found.items() if words} == {}


def test_code_and_documentation_use_the_words_of_the_field():
    files = [*texts("agora_analytics", "docs", "examples"), *(ROOT / name for name in FILES if name.endswith(".md"))]
    found = {path: used(PHRASES, path.read_text(encoding="utf-8").lower()) for path in files}
    assert {str(path.relative_to(ROOT)): words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("calls that are askable", ["askable"]),
        ("unaskable, told_apart, skin", []),
        ('{"ask": 1, "asks": 2}', ['"ask"']),
        ("watch(allowance=5)", ["allowance="]),
    ],
)
def test_replaced_names_are_found_as_whole_words(text, found):
    assert used(NAMES, text) == found
