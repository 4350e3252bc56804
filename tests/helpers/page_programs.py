"""The programs of the pages' shell blocks: `python page_programs.py PROGRAM ARGUMENT ...`.

`agora-analytics` is the real one without limits per second and minute. What runs until Ctrl-C ends by itself, and the
span of an export is 200 seconds whose details are queryable already. `python -m venv` makes an environment that changes
nothing, and `python -m pip install` looks up the extras, groups and files that it names; all other Python runs.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import tomllib
from itertools import pairwise
from pathlib import Path

from helpers.paths import ROOT
from helpers.unlimited_rates import without_rate_limits

from agora_analytics.cli.app import main
from agora_analytics.plans import PLANS

ENDS = {"watch": ["--windows", "9"], "follow": ["--last", "2h", "--events", "3"], "demo": ["--windows", "0"]}
"""Options that end a command which runs until Ctrl-C."""

UNTIL_INTERRUPTED = ("simulate", "serve")


def recent_span() -> list[str]:
    """Return the options for a span of 200 seconds that ended an hour ago."""
    end = int(time.time()) - 3_600
    return ["--start", f"{end - 200}", "--end", f"{end}"]


def recent(arguments: list[str]) -> list[str]:
    """Return the arguments of an export or a search with a recent span."""
    span = recent_span()
    if arguments[0] == "export" and "--last" in arguments:
        at = arguments.index("--last")
        return [*arguments[:at], *span, *arguments[at + 2 :]]
    if {"--start", "--end"} <= {*arguments}:
        values = {"--start": span[1], "--end": span[3]}
        return [arguments[0], *(values.get(before, word) for before, word in pairwise(arguments))]
    return arguments


def run_command(arguments: list[str]) -> int:
    """Run the command in this process."""
    PLANS.update({name: without_rate_limits(plan) for name, plan in PLANS.items()})
    return main([*recent(arguments), *ENDS.get(arguments[0], [])])


def run_until_ready(arguments: list[str]) -> int:
    """Run a command until it prints that Ctrl-C stops it, and press that."""
    command = [sys.executable, "-m", "agora_analytics", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            print(line, end="")
            if "Ctrl-C stops it" in line:
                process.send_signal(signal.SIGINT)
    return 0 if process.returncode == 130 else 1


def look_up(requirements: list[str]) -> int:
    """Look up what a command of pip names: extras and groups of this project, and its files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    missing = []
    for before, word in pairwise(["", *requirements]):
        if own := re.fullmatch(r"(?:\.|agora-analytics)(?:\[([\w,-]+)\])?", word):
            extras = own[1].split(",") if own[1] else []
            missing += [extra for extra in extras if extra not in project["project"]["optional-dependencies"]]
        elif (before == "--group" and word not in project["dependency-groups"]) or (
            before == "-r" and not (ROOT / word).is_file()
        ):
            missing.append(word)
    print(*missing, sep="\n", file=sys.stderr)
    return len(missing)


def make_environment(folder: Path) -> int:
    """Make what a shell activates; the programs stay those of this module."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/activate").touch()
    return 0


def run(program: str, *arguments: str) -> int:
    """Run a program of a page; return its exit code."""
    if program == "agora-analytics":
        until_interrupted = arguments[0] in UNTIL_INTERRUPTED and "--check" not in arguments
        return (run_until_ready if until_interrupted else run_command)(list(arguments))
    if arguments[:3] == ("-m", "pip", "install"):
        return look_up(list(arguments[3:]))
    if arguments[:2] == ("-m", "venv"):
        return make_environment(Path(arguments[2]))
    return subprocess.run([sys.executable, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
