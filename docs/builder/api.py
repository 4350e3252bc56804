"""Pages of the Python API: every public name once, from its docstring."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import cast

import griffe
from sources import API_TITLE, PACKAGE, ROOT

_TITLES = {
    "client": "Client",
    "endpoints": "Endpoints",
    "models": "Models",
    "errors": "Errors",
    "plans": "Plans and spans",
    "catalogue": "Catalogue",
    "quota": "Quota",
    "streams": "Streams",
    "export": "Exports",
    "export.queries": "Questions in SQL",
    "dlt": "Source for dlt",
    "fleet": "Fleet",
    "ops": "Operations",
    "ops.alerts": "Alerts",
    "ops.doctor": "Doctor",
    "ops.report": "Reports",
    "protocols": "Protocols",
    "simulator": "Simulator",
    "simulator.fixtures": "Pytest fixtures",
    "simulator.server": "Simulator as a server",
}
"""Titles of pages, by the module that each is of, in their order."""

_SHOWN_WITH = {"_core": "client", "spans": "plans"}
"""Modules without a page of their own, and the page that shows the names that the package exports from them."""

_PROGRAMS = {"__main__", "cli"}


@cache
def package() -> griffe.Module:
    """Return the package as read from its sources; nothing is imported."""
    found = griffe.load(PACKAGE, search_paths=[str(ROOT)], resolve_aliases=True, allow_inspection=False)
    return cast("griffe.Module", found)


@cache
def titles() -> dict[str, str]:
    """Return the titles of all pages: also of a public module that no title is known of."""
    known = {*_TITLES, *_SHOWN_WITH, *_PROGRAMS}
    others = sorted(name for name in package().modules if not name.startswith("_") and name not in known)
    return _TITLES | {name: name.title() for name in others}


def api_pages() -> dict[str, str]:
    """Return the pages of the API, by their path on the site."""
    shown = shown_names()
    return {
        f"reference/api/{module.replace('.', '-')}.md": _page(module, title, shown[module])
        for module, title in titles().items()
    }


def shown_names() -> dict[str, list[str]]:
    """Return the full names that each page shows: as the package exports them, or else as the page's module does."""
    shown: dict[str, list[str]] = {module: [] for module in titles()}
    seen = set()
    for name in _exported(package()):
        target = _target(package(), name)
        if target.is_module:
            continue
        home = target.path.split(".")[1]
        shown[_SHOWN_WITH.get(home, home if home in shown else "client")].append(f"{PACKAGE}.{name}")
        seen.add(target.path)
    for page in titles():
        module = package()[page]
        for name in _exported(module):
            target = _target(module, name)
            if not target.is_module and target.path not in seen:
                shown[page].append(f"{PACKAGE}.{page}.{name}")
                seen.add(target.path)
    return shown


def _page(module: str, title: str, names: list[str]) -> str:
    # The module itself without its members: only names that it exports are shown, from wherever they are defined.
    about = f"::: {PACKAGE}.{module}\n    options:\n      members: false"
    # Some guides and pages of the reference have the same title: a tab of the browser and the search tell them apart.
    heading = f"{API_TITLE}{title}"
    front = f'---\ntitle: "{heading}"\n---'
    return "\n\n".join([front, f"# {heading}", about, *(f"::: {name}" for name in names)]) + "\n"


def summary_of_page(module: str) -> str:
    """Return the first line of a module's docstring."""
    about = package()[module].docstring
    return about.value.partition("\n")[0] if about else ""


def _exported(module: griffe.Module) -> Iterator[str]:
    """Yield the public names of a module: those of `__all__`, or else what it defines."""
    if module.exports is not None:
        yield from map(str, module.exports)
        return
    for name, member in module.members.items():
        if not member.is_alias and not name.startswith("_") and member.docstring:
            yield name


def _target(module: griffe.Module, name: str) -> griffe.Object:
    member = module.members[name]
    return member.final_target if isinstance(member, griffe.Alias) else member
