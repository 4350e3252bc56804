"""The program `agora-analytics`: its commands, and its entry point with exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

import agora_analytics
from agora_analytics.cli.bash_completion import joined_words
from agora_analytics.cli.commands import (
    calls,
    demo,
    doctor,
    export,
    fleet,
    follow,
    info,
    insights,
    realtime,
    report,
    serve,
    simulate,
    sql,
    watch,
)
from agora_analytics.cli.runner import CLOSED, DONE, INTERRUPTED, MISUSE, report_error, write_stderr

NAME = "agora-analytics"

# The base of all of typer's usage errors has no public name.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    # A traceback with the values of locals would show credentials.
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Query the Agora Analytics REST API within the quotas of your pricing plan.\n\n"
    "Exit codes: 0 success, 1 failed or refused, 2 wrong usage, 130 Ctrl-C, 141 closed pipe, 143 SIGTERM.\n\n"
    "Example, without an account: agora-analytics demo",
)


def _show_version(requested: bool) -> None:  # noqa: FBT001 - the signature of a callback
    if requested:
        typer.echo(f"{NAME} {agora_analytics.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Accept the options before a command."""


app.command()(demo.demo)
app.command()(simulate.simulate)
app.add_typer(calls.app, name="calls")
app.add_typer(insights.app, name="insights")
app.add_typer(realtime.app, name="realtime")
app.command()(watch.watch)
app.command()(follow.follow)
app.command()(serve.serve)
app.command()(export.export)
app.command()(sql.sql)
app.command()(report.report)
app.add_typer(fleet.app, name="fleet")
app.command()(doctor.doctor)
app.command()(info.quota)
app.command()(info.plans)
app.command()(info.metrics)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the arguments of the process, and return the exit code."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A channel's name that the terminal cannot show must not end the command.
            stream.reconfigure(errors="replace")
    try:
        with joined_words(os.environ):
            # Otherwise typer exits the process itself, with error messages in boxes.
            code = _command()(args=arguments, prog_name=NAME, standalone_mode=False)
    except _UsageError as error:
        return _report_usage_error(error)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as end:
        # As typer ends where the help is written into a closed pipe.
        code = CLOSED if isinstance(end.__context__, BrokenPipeError) else end.code
    except OSError as error:  # the version or the help cannot be written
        return report_error(error)
    return code if isinstance(code, int) else DONE


@cache
def _command() -> Callable[..., object]:
    """Return all commands as one function; making it takes longer than most of them."""
    return get_command(app)


def _open_closed() -> None:
    """Discard what is written to a stream that was closed for this process (`>&-`), as a daemon may start it."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def _report_usage_error(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else NAME
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    # Without a command typer has shown the help, and the message is empty.
    write_stderr(*((f"error: {message}", f"Try '{path} --help'.") if message else ()))
    return MISUSE
