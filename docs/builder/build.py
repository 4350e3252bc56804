"""Builds the documentation site: `python docs/builder/build.py [FOLDER]`; by default into `site`.

Needs the dependency group `docs`, and typer for the pages of the command line. Everything that is wrong is an error:
a warning of the generator or of mkdocstrings, a dead link, a page outside of the navigation.

| Question | Where to look |
| --- | --- |
| Which file becomes which page? | `sources.py` |
| In which order are pages listed? | `navigation.py`, from `docs/index.md` |
| How does it look? | `config.toml`, `theme/` |
| What is made from the code? | `api.py`, `commands.py`, `catalogue.py`, `example_page.py`, `calculator.py` |
| Where do pictures come from? | `pictures.py`, run by hand |
| What is checked after the build? | `checks.py` |
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout's package, whichever is installed

from api import api_pages
from calculator import NUMBERS, calculator_json
from catalogue import catalogue_page
from checks import check_site
from commands import commands_page
from example_page import examples_page
from llms import write_texts
from navigation import as_toml, navigation
from sources import EXAMPLES, ROOT, sources, with_site_links

_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
CONFIG = Path(__file__).parent / "config.toml"


def build(folder: Path) -> None:
    """Build the site into a folder, which it replaces; raises `SystemExit` that names everything that is wrong."""
    # Everything in it is deleted: `docs` or the user's folder must not be named by mistake.
    if folder.exists() and not (folder / "objects.inv").is_file() and (folder.is_file() or any(folder.iterdir())):
        raise SystemExit(f"{folder} is no folder of a built site: name one that is empty or does not exist")
    made = {
        EXAMPLES: examples_page(),
        "reference/commands.md": commands_page(),
        "reference/catalogue.md": catalogue_page(),
        **api_pages(),
    }
    files = sources()
    texts = {page: _text(file) for page, file in files.items() if file.suffix == ".md"} | made
    sections = navigation(texts, made)
    with TemporaryDirectory() as work:
        pages = Path(work, "pages")
        for page, text in texts.items():
            # The changelog and benchmarks have all words of the field: in the search they would come before the guides.
            hidden = _UNSEARCHED if page.startswith("project/") else ""
            _parent(pages / page).write_text(hidden + text, encoding="utf-8")
        for page in files.keys() - texts.keys():
            shutil.copyfile(files[page], _parent(pages / page))
        (pages / NUMBERS).write_text(calculator_json(), encoding="utf-8")
        config = CONFIG.read_text(encoding="utf-8").replace("ROOT", ROOT.as_posix())
        Path(work, "zensical.toml").write_text(
            config.replace("[project]\n", f"[project]\nnav = {as_toml(sections)}\n", 1), encoding="utf-8"
        )
        _run_generator(Path(work))
        site = Path(work, "site")
        _let_phrases_wrap(site)
        write_texts(site, texts, sections)
        check_site(site, sections, texts)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(site, folder)


def _text(file: Path) -> str:
    return with_site_links(file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix())


def _parent(path: Path) -> Path:
    """Return a path whose folder exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _run_generator(work: Path) -> None:
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    run = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)  # noqa: S603
    output = _COLORS.sub("", run.stdout + run.stderr)
    # Strict mode does not see what mkdocstrings and griffe report: any line but the expected ones is an error.
    unexpected = [line for line in output.splitlines() if not line.startswith(_EXPECTED)]
    if run.returncode or unexpected:
        raise SystemExit("\n".join(unexpected) or output)


def _let_phrases_wrap(site: Path) -> None:
    """Give code that is a phrase, such as an error's text, a class: in tables it wraps, and names do not."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(_PHRASE.sub(r'<code class="phrase">\1</code>', text), encoding="utf-8")


# At least 30 characters, with a space; not what was highlighted.
_PHRASE = re.compile(r"(?<!</span>)<code>(?=[^<]{30})([^<\n]+ [^<\n]+)</code>")
_EXPECTED = ("Build started", "Build finished", "No issues found")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site")
    build(target)
    print(f"built {target}: {sum(1 for _ in target.rglob('*.html'))} pages")
