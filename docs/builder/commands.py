"""The page of the command line: every command with its arguments and options, from its help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main
from tables import table

from agora_analytics.cli.app import NAME, app

_SHARED = ("Account", "Names", "Output")
"""Panels of options that many commands have: shown once, at the end."""

_INTRO = (
    f"Every command of `{NAME}`, with its arguments and options, from its `--help`. The "
    "[overview](command-line.md) has names, times, exit codes and messages."
)


def commands_page() -> str:
    """Return the page."""
    shared: dict[str, dict[str, Any]] = {panel: {} for panel in _SHARED}
    parts = ["# Commands and options", _INTRO]
    for path, command in _commands(NAME, typer.main.get_command(app)):
        parts += [f"## {path}", _unwrapped(command.help), *_panels(path, command, shared)]
    parts.append("## Shared options")
    for panel, options in shared.items():
        parts += [f"### {panel}", _options(options.values())]
    return "\n\n".join(parts) + "\n"


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the full name of each command that does something, and the command."""
    if inner := getattr(command, "commands", None):
        for name, one in inner.items():
            yield from _commands(f"{path} {name}", one)
    elif not command.hidden:
        yield path, command


def _panels(path: str, command: Any, shared: dict[str, dict[str, Any]]) -> Iterator[str]:
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        if parameter.name != "help" and not getattr(parameter, "hidden", False):
            panel = getattr(parameter, "rich_help_panel", None)
            panels.setdefault(panel or ("Options" if _is_option(parameter) else "Arguments"), []).append(parameter)
    used = []
    names = " ".join(_argument(one) for one in panels.pop("Arguments", []))
    yield f"```sh\n{path} [OPTIONS]{' ' if names else ''}{names}\n```"
    arguments = [one for one in command.params if not _is_option(one) and one.help]
    if arguments:
        yield table(("argument", "meaning"), ((f"`{_metavar(one)}`", one.help) for one in arguments))
    for panel, options in panels.items():
        if panel in shared:
            shared[panel] |= {one.name: one for one in options}
            used.append(panel)
        else:
            yield f"**{panel}**"
            yield _options(options)
    if used:
        yield f"Also the shared options of {', '.join(f'[{panel}](#{panel.lower()})' for panel in sorted(used))}."


def _options(options: Any) -> str:
    return table(("option", "value", "meaning"), ((_spelling(one), _value(one), _help(one)) for one in options))


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _argument(parameter: Any) -> str:
    text = _metavar(parameter) + ("..." if parameter.nargs != 1 else "")
    return text if parameter.required else f"[{text}]"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _spelling(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _value(option: Any) -> str:
    if getattr(option, "is_flag", False):
        return ""
    return f"`{_metavar(option)}`{', repeatable' if option.multiple else ''}"


def _help(option: Any) -> str:
    shown = option.default if getattr(option, "show_default", False) and option.default not in {None, False} else None
    return f"{option.help or ''}{'' if shown is None else f' [default: {shown}]'}"


def _unwrapped(text: str | None) -> str:
    """Return the help of a command; its examples are code."""
    text = (text or "").replace("\b", "")
    return re.sub(r"^Example(.*?): (agora-analytics .*)$", r"Example\1: `\2`", text, flags=re.MULTILINE)
