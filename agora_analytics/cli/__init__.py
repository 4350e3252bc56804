"""The program `agora-analytics`: the library from a shell, for people and for pipes.

It needs the extra `cli` (typer and rich); importing this package does not, and neither does the rest of the library.

| Question | Where to look |
| --- | --- |
| Which commands are there? | `app.py`; each group is a module of `commands/` |
| Which exit codes are there, and how are errors shown? | `runner.py`; Ctrl-C and SIGTERM: `signals.py` |
| Where do settings and credentials come from? | `options.py`, `settings.py` |
| What does shell completion offer? | `parsing.py`; words with a colon in bash: `bash_completion.py` |
| How are results printed? | `tables.py` (which columns), `output.py` (terminal, pipe or `--json`) |
| What is shown while a command waits? | `status_lines.py`; repeated warnings: `throttle.py` |
"""

from __future__ import annotations

import os
import sys

from agora_analytics._core.extras import install_command

__all__ = ["run"]

_HINT = f"error: the command line needs typer and rich: {install_command('cli')}\n"
_EXTRA = frozenset({"typer", "rich"})
# Repeated from `runner`, which `_main` imports: Ctrl-C during that import has to end quietly, too.
_MISUSE = 2
_INTERRUPTED = 130
_TERMINATED = 143


def run() -> None:
    """Run the command line of this process and exit.

    Exit codes: 0 success, 1 failed or refused, 2 wrong usage, 130 Ctrl-C, 141 closed pipe, 143 SIGTERM.
    """
    try:
        code = _main()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code in {_INTERRUPTED, _TERMINATED}:
        _exit_now(code)
    sys.exit(code)


def _main() -> int:
    try:
        from agora_analytics.cli.app import main  # noqa: PLC0415 - the extra may be missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(_HINT)
        return _MISUSE
    return main()


def _exit_now(code: int) -> None:
    """Exit without joining threads: one that waits for a name server would delay the prompt for many seconds."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
