"""The documentation site builds strictly, has every page and public name, and its search finds words of the field.

Needs the dependency group `docs`; `nox -s docs` runs these.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from importlib import import_module
from importlib.util import find_spec

import pytest
from helpers.pages import PAGES, README
from helpers.paths import ROOT

import agora_analytics

MISSING = [name for name in ("zensical", "mkdocstrings", "griffe", "typer") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.skipif(bool(MISSING), reason=f"the dependency group `docs` is not installed: {', '.join(MISSING)}"),
]
DOORS = (
    *("endpoints", "errors", "export", "fleet", "models", "ops", "ops.alerts", "ops.doctor", "plans", "quota"),
    *("simulator", "spans", "streams"),
)
MODULES = [agora_analytics, *(import_module(f"agora_analytics.{door}") for door in DOORS)]
TERMS = ("rate limit", "backfill", "checkpoint", "retry", "failover", "exactly once", "late data", "idempotent")
BUILDER = ROOT / "docs/builder"


def run_builder(code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the modules of the builder, in a process of its own: they are no package."""
    code = f"import sys; sys.path[:0] = [{str(BUILDER)!r}, {str(ROOT)!r}]\nfrom pathlib import Path\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    run = subprocess.run(
        [sys.executable, str(BUILDER / "build.py"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "is no folder of a built site" in run.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "built"
    run = subprocess.run(
        [sys.executable, str(BUILDER / "build.py"), str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_every_page_of_the_documentation_is_on_the_site_and_in_llms_txt(site):
    pages = [page.relative_to(ROOT / "docs").with_suffix("") for page in PAGES if page != README]
    assert [page for page in pages if page.stem != "index" and not (site / page / "index.html").is_file()] == []
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    assert [page for page in pages if page.stem != "index" and f"({page.as_posix()}.md)" not in listed] == []
    assert all((site / page).with_suffix(".md").is_file() for page in pages if page.stem != "index")


def test_every_public_name_is_in_the_inventory(site):
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    inventory = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    names = {f"{module.__name__}.{name}" for module in MODULES for name in module.__all__}
    assert len(names) > 150
    # A name that the package exports, too, is shown under that shorter name.
    short = {f"agora_analytics.{name}" for name in agora_analytics.__all__}
    missing = {name for name in names - inventory if f"agora_analytics.{name.rpartition('.')[2]}" not in short}
    assert missing | (short - inventory) == set()


def test_every_public_name_has_a_docstring_on_its_page(site):
    items = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    texts = {item["location"].partition("#")[2]: item["text"] for item in items}
    names = [f"agora_analytics.{name}" for name in agora_analytics.__all__]
    assert [name for name in names if "<p>" not in texts.get(name, "")] == []


@pytest.mark.parametrize("term", TERMS)
def test_the_search_finds_a_term_of_the_field(site, term):
    items = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    found = {item["location"].partition("#")[0] for item in items if term in (item["title"] + item["text"]).lower()}
    assert len(found) >= 2, found


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("# Watch\n\n[One](nowhere.md) and [two](calls.md#no-such-heading).", ["nowhere.md", "no-such-heading"]),
        ("# Watch\n\n::: agora_analytics.NoSuchName", ["NoSuchName"]),
    ],
    ids=["dead links", "an unknown name"],
)
def test_what_is_wrong_in_a_page_fails_the_build(text, complaints, tmp_path):
    folder = tmp_path / "site"
    code = (
        f"import build\nread = build._text\nbuild._text = lambda file: {text!r} if file.stem == 'watch' else read(file)"
    )
    run = run_builder(f"{code}\nbuild.build(Path({str(folder)!r}))")
    assert run.returncode == 1
    assert [complaint for complaint in complaints if complaint not in run.stderr] == []
    assert not folder.exists()


def test_what_is_wrong_on_the_built_site_is_reported(site, tmp_path):
    shutil.copytree(site, tmp_path, dirs_exist_ok=True)
    (tmp_path / "wrong.html").write_text(
        '<a href="nowhere/">1</a><a href="index.html#nothing">2</a><img src="https://example.org/x.png">'
    )
    (tmp_path / "objects.inv").write_bytes(b"\n\n\n\n" + zlib.compress(b"agora_analytics.Call py:class 1 $ -\n"))
    code = "from checks import check_site\ncheck_site(Path(sys.argv[1]), {'Home': 'index.md'}, {'lost.md': ''})"
    run = run_builder(code.replace("sys.argv[1]", repr(str(tmp_path))))
    assert {line for line in run.stderr.splitlines() if not line.endswith("not in the reference")} == {
        "lost.md: not in the navigation",
        "wrong.html: loads https://example.org/x.png from another host",
        "wrong.html: nowhere/ leads nowhere",
        "wrong.html: index.html#nothing has no such heading",
    }
    assert "agora_analytics.AnalyticsClient: public, and not in the reference" in run.stderr
    assert "agora_analytics.Call: " not in run.stderr
