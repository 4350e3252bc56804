"""The questions: SQL files of the package, whose first comments say what they answer and which datasets they need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import attrs

__all__ = ["QUESTIONS", "Question"]

_FOLDER: Final = files("agora_analytics.export.queries") / "sql"

_NAMES: Final = (
    "worst_calls",
    "worst_countries",
    "worst_networks",
    "worst_sdk_versions",
    "worst_devices",
    "minutes_by_channel",
    "join_failures",
    "who_froze_whom",
    "users_with_repeated_freezes",
    "trend_by_day",
    "trend_by_week",
)


@attrs.frozen(kw_only=True)
class Question:
    """A question about an export: its text, the SQL that answers it, and the datasets that the SQL reads."""

    name: str
    text: str
    needs: tuple[str, ...]
    sql: str


def derived_views() -> str:
    """Return the SQL of the views and macros that the questions share, over views of the datasets."""
    return (_FOLDER / "views.sql").read_text(encoding="utf-8")


def _question(name: str) -> Question:
    sql = (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    text = sql.splitlines()[0].removeprefix("-- ")
    needs = re.search(r"^-- Needs: (.+)\.$", sql, re.MULTILINE)
    return Question(name=name, text=text, needs=tuple(needs[1].split(", ")) if needs else (), sql=sql)


QUESTIONS: Final[Mapping[str, Question]] = {name: _question(name) for name in _NAMES}
"""Every question by name."""
