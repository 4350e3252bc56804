"""The whole command: its groups put together, and its one way in and out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import agora_analytics
from agora_analytics.cli.commands import calls, demo, export, follow, info, insights, realtime, simulate, watch
from agora_analytics.cli.runner import DONE, INTERRUPTED, MISUSE, tell

NAME = "agora-analytics"

# What typer raises for bad options; it shows the base of it under no name of its own.
_BadOption: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    help="Reads the Agora Analytics REST API and keeps the quotas of your plan.\n\n"
    "Example: agora-analytics demo, which needs no account.",
)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"{NAME} {agora_analytics.__version__}")
        raise typer.Exit


@app.callback()
def _every(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version, and exit.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """Take what stands before any command."""


app.command()(demo.demo)
app.command()(simulate.simulate)
app.add_typer(calls.app, name="calls")
app.add_typer(insights.app, name="insights")
app.add_typer(realtime.app, name="realtime")
app.command()(watch.watch)
app.command()(follow.follow)
app.command()(export.export)
app.command()(info.quota)
app.command()(info.plans)
app.command()(info.metrics)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the process's own, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a channel's name is no reason to fail.
            stream.reconfigure(errors="replace")
    try:
        code = app(args=arguments, prog_name=NAME, standalone_mode=False)
    except _BadOption as error:
        return _misused(error)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else DONE


def _misused(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    asked = context.command_path if context else NAME
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    # Without any command the help was shown already, and there is no message.
    tell(*((f"error: {message}", f"Try '{asked} --help'.") if message else ()))
    return MISUSE
