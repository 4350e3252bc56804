"""Shell completion of words with a colon in bash, which splits a line at colons too.

Typer does all other shell completion, with names from `parsing.py`. Bash hands `watch userCount:N` over as the words
`watch`, `userCount`, `:` and `N`, and replaces only the last of them. Typer completes single words, so the parts are
joined before, and each answer is cut to what replaces the last part.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from typing import Final

_REQUEST: Final = ("_AGORA_ANALYTICS_COMPLETE", "complete_bash")
_WORDS: Final = "COMP_WORDS"
_CURRENT: Final = "COMP_CWORD"


@contextmanager
def joined_words(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Join split words for a completion inside, if bash requests one; otherwise do nothing."""
    name, request = _REQUEST
    prefix = _join(environment) if environment.get(name) == request else ""
    if not prefix:
        yield
        return
    answers = io.StringIO()
    try:
        with redirect_stdout(answers):
            yield
    finally:
        sys.stdout.writelines(f"{answer.removeprefix(prefix)}\n" for answer in answers.getvalue().splitlines())


def _join(environment: MutableMapping[str, str]) -> str:
    """Join the parts of words, and return what bash keeps of the current one: all up to its last colon."""
    current = int(environment[_CURRENT])
    parts = environment[_WORDS].split("\n")[: current + 1]
    joined: list[str] = []
    after_colon = False
    for part in parts:
        is_colon = bool(part) and not part.strip(":")
        # An empty part begins a new word: there is a space before it.
        if joined and (is_colon or (after_colon and part)):
            joined[-1] += part
        else:
            joined.append(part)
        after_colon = is_colon
    if len(joined) == len(parts):
        return ""
    environment[_WORDS], environment[_CURRENT] = "\n".join(joined), str(len(joined) - 1)
    kept, colon, _ = joined[-1].rpartition(":")
    return kept + colon
