"""Shell blocks of README and docs: their text, what the page shows below them, and why some do not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from helpers.pages import PAGES, name_of
from helpers.paths import ROOT

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```sh\n(?P<text>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```)?",
    re.DOTALL | re.MULTILINE,
)
_SAVED = re.compile(r"^Save this as `([\w.]+)`.*?^```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(agora-analytics [^`]+)`")
_KEYWORDS = {"do", "exec", "if", "sudo", "then", "until", "while"}


class ShellBlock(NamedTuple):
    """A block of shell commands on a page."""

    page: Path
    text: str
    shown: str
    reason: str
    """Why it does not run; empty if it runs."""

    @property
    def name(self) -> str:
        """The page and the first command."""
        return f"{name_of(self.page)}: {self.text.partition(chr(10))[0][:50]}"


def blocks() -> list[ShellBlock]:
    """Return the blocks of all pages, in order."""
    return [
        ShellBlock(page, found["text"], found["shown"] or "", found["reason"] or "")
        for page in (*PAGES, ROOT / "CONTRIBUTING.md")
        for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def saved_files(page: Path) -> dict[str, str]:
    """Return the files that a page asks its readers to save, by name."""
    return dict(_SAVED.findall(page.read_text(encoding="utf-8")))


def programs(text: str) -> Iterator[list[str]]:
    """Yield the commands in a text of shell as words, without redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        in_redirection = False
        for word in (*lexer, ";"):
            if word and set(word) <= set("();|&"):
                if words:
                    yield words
                words = []
            elif word and set(word) <= set("<>"):
                in_redirection = True
            elif in_redirection:
                in_redirection = False
            elif words or word not in _KEYWORDS:
                words.append(word)


def inline_commands(page: Path) -> list[list[str]]:
    """Return the commands of `agora-analytics` in the sentences and tables of a page, as words."""
    return [shlex.split(command) for command in _INLINE.findall(page.read_text(encoding="utf-8"))]
