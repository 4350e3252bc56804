"""The style sheet of the live page."""

from __future__ import annotations

import re
from importlib.resources import files

SHEET = (files("agora_analytics.ops.web") / "static/app.css").read_text(encoding="utf-8")


def colours_of(selector: str) -> dict[str, str]:
    """Return the variables that the rule of a selector sets."""
    rule = re.search(rf"{re.escape(selector)} \{{(.*?)\}}", SHEET, re.DOTALL)
    assert rule
    return dict(re.findall(r"(--[\w-]+): ([^;]+);", rule[1]))


def test_the_dark_colours_are_the_same_by_choice_and_by_the_system():
    chosen, system = colours_of(':root[data-theme="dark"]'), colours_of(':root:not([data-theme="light"])')
    assert len(chosen) > 20
    assert chosen == system


def test_every_colour_is_set_in_light_and_dark():
    assert colours_of(":root").keys() == colours_of(':root[data-theme="dark"]').keys()
