"""The pictures of the pages: a script makes all of them from the running program, and they load nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from helpers.browser import NEEDS_BROWSER
from helpers.paths import ROOT

IMAGES = ROOT / "docs" / "images"
PICTURES = sorted(IMAGES.iterdir())


def words(svg: Path) -> str:
    """Return the text of a picture of a terminal."""
    return unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text(encoding="utf-8"))))


@pytest.mark.slow
@pytest.mark.process
@NEEDS_BROWSER
def test_the_script_makes_every_picture(tmp_path):
    script = ROOT / "docs" / "builder" / "pictures.py"
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, script, tmp_path / "made"], check=True, timeout=120, env=environment)
    made = tmp_path / "made"
    assert {path.name for path in made.iterdir()} == {path.name for path in PICTURES}
    assert (made / "live-page.png").stat().st_size > 100_000
    for svg in made.glob("*.svg"):
        assert {"over", "time", "lowest"} <= set(words(svg).replace("\xa0", " ").split())


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_page_shows_every_picture(picture):
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(f"images/{picture.name})" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("picture", [path for path in PICTURES if path.suffix == ".svg"], ids=lambda path: path.name)
def test_a_picture_of_a_terminal_loads_nothing(picture):
    assert set(re.findall(r"https?://[^\"' )]+", picture.read_text(encoding="utf-8"))) <= {"http://www.w3.org/2000/svg"}
