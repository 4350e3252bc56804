"""The figures of `benchmarks.structure` are right for a package of a few lines."""

from __future__ import annotations

import pytest

from benchmarks import structure

CLOCK = '''
"""A clock.

>>> now()
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agora_analytics.limiter import Limiter


def now() -> float:  # noqa: D103 - not a comment
    return 0.0  # a comment
'''
LIMITER = '''
"""A rate limiter."""

from agora_analytics.clock import now


class Limiter:
    """Waits."""
'''


@pytest.fixture
def files(tmp_path):
    (tmp_path / "quota").mkdir()
    (tmp_path / "__init__.py").write_text("from agora_analytics import clock\n")
    (tmp_path / "clock.py").write_text(CLOCK)
    (tmp_path / "limiter.py").write_text(LIMITER)
    (tmp_path / "quota/alone.py").write_text("import asyncio\nfrom agora_analytics.clock import now\n")
    return structure.modules(tmp_path)


def test_files_and_functions_are_measured_in_lines(files):
    figures = dict(structure.sizes(files))
    assert figures["files"] == "4"
    assert figures["lines of the largest file"] == "14 (clock.py)"
    assert figures["functions"] == "1"


def test_an_import_for_type_checkers_closes_a_circle(files):
    assert dict(structure.circles(files)) == {"import circles, files in them": "1, 2"}
    assert dict(structure.circles([file for file in files if file.name != "limiter.py"])) == {
        "import circles, files in them": "0, 0"
    }


def test_field_terms_examples_and_comments_are_counted(files):
    figures = dict(structure.texts(files))
    assert figures["docstrings with an example"] == "1 of 3"
    assert figures["terms of the field that occur"] == "1 of 16"
    assert figures["  files with 'rate limit'"] == "1"
    assert figures["lines of code for a comment"] == "16"
    assert figures["  in quota/"] == "2"


def test_blocks_with_a_mark_are_not_counted_as_run(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/night.ipynb").write_text("{}")
    (tmp_path / "examples/search.py").write_text("")
    (tmp_path / "README.md").write_text("```python\n1\n```\n\n```sh\nls\n```\n")
    (tmp_path / "docs/deploy.md").write_text("<!-- not run: needs Docker -->\n```sh\ndocker ps\n```\n")
    assert dict(structure.examples(tmp_path)) == {
        "Python blocks of pages that run": "1 of 1",
        "shell blocks of pages that run": "1 of 2",
        "programs and notebooks in examples/": "2",
    }
