"""The page of messages: every text with which the library raises an error, and what to do about it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial

import griffe
from api import package
from sources import PACKAGE, ROOT
from tables import table

from agora_analytics import errors
from agora_analytics._core.wire import _HINTS

_ANY = "…"
"""Stands for what is only known when an error is raised."""


def messages_page() -> str:
    """Return the page."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for file in (ROOT / PACKAGE).rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        if file.name != "errors.py" and any(f"{name}(" in source for name in errors.__all__):
            module = ".".join(file.relative_to(ROOT / PACKAGE).with_suffix("").parts).removesuffix(".__init__")
            for error, message, hint in _raised(ast.parse(source), package()[module]):
                found[error].add((message, hint))
    return "\n\n".join(["# Messages of errors", _INTRO, *_sections(found)]) + "\n"


_INTRO = (
    f"Search this page for words of a message that you see; {_ANY} stands for what differs from case to case. The "
    "text of an error ends with what to do; `error.hint` has it, too. The [reference of errors](errors.md) says which "
    "errors are retried and what else helps, and the [Python API](api/errors.md) which attributes each has."
)


def _sections(found: Mapping[str, set[tuple[str, str]]]) -> Iterator[str]:
    for name in errors.__all__:
        kind = getattr(errors, name)
        hint = _HINTS.get(kind)
        # Errors that only quote the service have one hint for all of their messages.
        if found.get(name) or hint:
            yield f"## {name}"
            yield kind.__doc__.partition("\n")[0]
            if hint:
                yield f"**What to do**: {hint}"
        if found.get(name):
            yield table(("message", "what to do"), sorted(found[name]))


def _raised(tree: ast.AST, module: griffe.Module) -> Iterator[tuple[str, str, str]]:
    """Yield error, message and hint of each error of ours that a module makes with a text of its own."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = partial(_text, module=module, local=_assigned(function))
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and call.args and _name(call.func) in errors.__all__:
                message = text(call.args[0])
                hint = next((text(word.value) for word in call.keywords if word.arg == "hint"), "")
                if re.search(r"[a-z]{3}", message):
                    yield _name(call.func), message, hint.replace(_ANY, "").strip() and hint


def _assigned(function: ast.AST) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _text(node: ast.expr, *, module: griffe.Module, local: Mapping[str, ast.expr]) -> str:  # noqa: PLR0911
    """Return the text of an expression, as far as it is known before the program runs."""
    inner = partial(_text, module=module, local=local)
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return re.sub(f"{_ANY}+", _ANY, "".join(map(inner, parts)))
        case ast.FormattedValue(value=value):
            return inner(value)
        case ast.IfExp(body=body, orelse=orelse):
            return " / ".join(filter(None, (inner(body), inner(orelse))))
        case ast.Name(id=name) if name in local:
            return _text(local[name], module=module, local={**local, name: ast.Constant(_ANY)})
        case ast.Name(id=name) if name in module.members:
            return _constant(module.members[name])
    return _ANY


def _constant(member: griffe.Object | griffe.Alias) -> str:
    """Return the text of a constant of a module, or of one that it imports."""
    value = getattr(member.final_target if isinstance(member, griffe.Alias) else member, "value", None)
    try:
        return str(ast.literal_eval(str(value)))
    except (ValueError, SyntaxError):
        return _ANY
