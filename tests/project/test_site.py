"""The documentation site builds strictly, has every page and public name, and its search finds words of the field.

Needs the dependency group `docs`; `nox -s docs` runs these.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from threading import Thread

import attrs
import pytest
from helpers.browser import NEEDS_BROWSER, chromium, open_tab
from helpers.built_site import NEEDS_DOCS, run_builder
from helpers.pages import PAGES, README
from helpers.paths import ROOT

import agora_analytics
from agora_analytics import AnalyticsClient
from agora_analytics.simulator import Simulation

pytestmark = [pytest.mark.slow, pytest.mark.process, NEEDS_DOCS]
DOORS = (
    *("dlt", "endpoints", "errors", "export", "export.queries", "fleet", "models", "ops", "ops.alerts", "ops.doctor"),
    *("ops.report", "plans", "quota", "simulator", "spans", "streams"),
)
MODULES = [agora_analytics, *(import_module(f"agora_analytics.{door}") for door in DOORS)]
TERMS = {
    "allowed lateness": "reference/streams/",
    "at least once": "guides/watch/",
    "back-pressure": "glossary/",
    "backfill": "concepts/streams/",
    "backoff": "concepts/streams/",
    "checkpoint": "concepts/streams/",
    "deduplicate": "glossary/",
    "dry run": "tutorial/parquet/",
    "exactly once": "guides/failover/",
    "failover": "guides/failover/",
    "fault injection": "reference/simulator/",
    "fencing token": "concepts/streams/",
    "heartbeat": "concepts/streams/",
    "idempotent": "concepts/exports/",
    "late data": "concepts/streams/",
    "lease": "reference/api/protocols/",
    "manifest": "reference/manifest-format/",
    "pagination": "glossary/",
    "priority": "guides/quota/",
    "queue": "concepts/quota/",
    "rate limit": "concepts/quota/",
    "retention": "reference/limits/",
    "retry": "reference/errors/",
    "schema": "glossary/",
    "serialize": "glossary/",
    "staging": "glossary/",
    "throttle": "glossary/",
    "token bucket": "concepts/quota/",
    "virtual time": "guides/testing/",
    "watermark": "concepts/streams/",
    "worker": "concepts/fleet/",
}
"""Words of the field, and a page that is among the first results of a search for each."""

FIRST = 3
RESULTS = """() => {
    const links = (root) => [...root.querySelectorAll("*")].flatMap((node) =>
        node.shadowRoot ? links(node.shadowRoot) : node.tagName === "A" && root !== document ? [node.href] : []);
    return links(document);
}"""
"""The addresses of the results that the search shows, which is in a shadow root."""


def title_of(page):
    return re.search(r"<title>(.*?)</title>", page.read_text(encoding="utf-8"))[1]


def test_no_two_pages_have_one_title(site):
    titles = Counter(title_of(page) for page in site.rglob("*.html"))
    assert len(titles) > 90
    assert [title for title, pages in titles.items() if pages > 1] == []


def test_the_page_of_unknown_addresses_leads_to_the_first_page_all_pages_and_the_search(site):
    page = (site / "404.html").read_text(encoding="utf-8")
    content = page[page.index("<h1>") : page.index("</article>")]
    assert re.findall(r'(?:href|for)="(.*?)"', content) == ["/index.html", "/contents/index.html", "__search"]


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    run = subprocess.run(
        [sys.executable, str(ROOT / "docs/builder/build.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "is no folder of a built site" in run.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_every_page_of_the_documentation_is_on_the_site_and_in_llms_txt(site):
    pages = [page.relative_to(ROOT / "docs").with_suffix("") for page in PAGES if page != README]
    assert [page for page in pages if page.stem != "index" and not (site / page / "index.html").is_file()] == []
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    assert [page for page in pages if page.stem != "index" and f"({page.as_posix()}.md)" not in listed] == []
    lines = [line for line in listed.splitlines() if line.startswith("- ")]
    assert [line for line in lines if not re.fullmatch(r"- \[[^\]]+\]\(\S+\): .{20,}[.`]", line)] == []
    assert all((site / page).with_suffix(".md").is_file() for page in pages if page.stem != "index")


def inventory_of(site):
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}


def public(kind):
    """Return the public attributes of a class, also those of instances, but for what its signature shows."""
    shown = {field.name for field in attrs.fields(kind)} if attrs.has(kind) else set()
    return {name for name in {*dir(kind), *kind.__annotations__} - shown if not name.startswith("_")}


def test_the_client_and_every_group_of_it_are_in_the_reference_with_all_that_is_public(site):
    inventory = inventory_of(site)
    client = Simulation().client()
    groups = {name: getattr(client, name) for name in ("calls", "insights", "realtime", "export", "quota", "plan")}
    attributes = public(AnalyticsClient)
    assert groups.keys() <= attributes
    names = {f"agora_analytics.AnalyticsClient.{name}" for name in attributes}
    for group in map(type, groups.values()):
        assert len(public(group)) > 2
        names |= {f"{group.__module__}.{group.__name__}.{name}" for name in public(group)}
    assert names - inventory == set()


def test_every_public_name_is_in_the_inventory(site):
    inventory = inventory_of(site)
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


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("", "the file"),
        ("https://example.com/fork/", "[the file](https://example.com/fork/blob/main/deploy/compose.yaml)"),
    ],
)
def test_a_file_without_a_page_is_linked_in_the_repository_if_that_has_an_address(monkeypatch, address, link):
    monkeypatch.setenv("PROJECT_URL", address)
    source = "docs/guides/deploy.md"
    run = run_builder(
        f"import sources\nprint(sources.with_site_links('[the file](../../deploy/compose.yaml)', {source!r}))"
    )
    assert run.stdout.strip() == link


@contextmanager
def served(folder):
    """Serve a folder on localhost; yields the address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


async def search(page, address, term):
    """Return the first pages that the site's search shows for a term, each once, best first."""
    await page.keyboard.press("Control+A")
    await page.keyboard.press("Delete")
    # What is shown until then are the results of the term before.
    await page.wait_for_function(f"() => !({RESULTS})().length")
    await page.keyboard.insert_text(term)
    await page.wait_for_function(f"() => ({RESULTS})().length")
    found = [link.removeprefix(address).partition("?")[0] for link in await page.evaluate(RESULTS)]
    return list(dict.fromkeys(found))[:FIRST]


@pytest.mark.real_time
@NEEDS_BROWSER
async def test_the_search_finds_words_of_the_field_among_its_first_results(site):
    async with chromium() as browser, open_tab(browser) as tab:
        with served(site) as address:
            await tab.page.goto(f"{address}index.html", wait_until="networkidle")
            await tab.page.keyboard.press("/")
            await tab.until("document.activeElement?.shadowRoot?.activeElement?.tagName === 'INPUT'", 60)
            found = {term: await search(tab.page, address, term) for term in TERMS}
    assert {term: pages for term, pages in found.items() if TERMS[term] not in pages} == {}


LOOKED_AT = ("tutorial/calls/", "reference/api/client/", "reference/exports/", "guides/troubleshooting/", "404.html")
BROKEN_NAMES = """() => [...document.querySelectorAll("td code:not(.phrase)")].filter((code) =>
    new Set([...code.getClientRects()].map((box) => Math.round(box.top))).size > 1).map((code) => code.innerText)"""
CUT_CODE = """() => [...document.querySelectorAll("pre > code")].filter((code) =>
    code.scrollWidth > code.clientWidth && Math.max(...code.innerText.split("\\n").map((line) => line.length)) <= 100
    ).map((code) => code.innerText)"""


@pytest.mark.real_time
@NEEDS_BROWSER
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
async def test_pages_can_be_read_in_any_width_and_scheme(width, scheme, site):
    wrong = {}
    options = {"viewport": {"width": width, "height": 860}, "color_scheme": scheme, "has_touch": width == 390}
    async with chromium() as browser, open_tab(browser, **options) as tab:
        with served(site) as address:
            for path in LOOKED_AT:
                await tab.page.goto(f"{address}{path}", wait_until="networkidle")
                cut = await tab.page.evaluate(CUT_CODE) if width == 1280 else []
                wrong[path] = [*cut, *await tab.page.evaluate(BROKEN_NAMES), *await complaints_of_axe(tab)]
    assert {path: found for path, found in wrong.items() if found} == {}


async def complaints_of_axe(tab):
    if find_spec("axe_playwright_python") is None:
        return []
    await tab.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = await tab.page.evaluate("axe.run({ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa'] })")
    return [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]


@pytest.mark.parametrize(("name", "words"), [("QuotaExhausted", "quota exhausted"), ("user_count", "user count")])
def test_the_search_finds_a_name_by_its_words(site, name, words):
    separator = json.loads((site / "search.json").read_text(encoding="utf-8"))["config"]["separator"]
    assert " ".join(re.split(separator, name)).lower() == words


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
