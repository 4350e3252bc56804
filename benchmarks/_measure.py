"""Ratios that hold on a noisy machine: contestants take turns, and times of the same round are compared."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

import attrs

Job = Callable[[], object]


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table: medians of ours and of what it is compared with, and the median of their ratios.

    `target` is the highest ratio allowed, or the lowest if `least`.
    """

    what: str
    ours: float
    against: str
    theirs: float
    ratio: float
    target: float | None = None
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether the target is met, or there is none."""
        if self.target is None:
            return True
        return self.ratio >= self.target if self.least else self.ratio <= self.target


def cpu(job: Job) -> float:
    """Seconds of CPU time that a job takes; garbage is collected before, not during."""
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        job()
        return time.process_time() - begun
    finally:
        gc.enable()


def interleaved(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let every job measure itself once a round; each round begins with another job, and a first one is not counted."""
    names = list(jobs)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            seconds = jobs[name]()
            if number:
                found[name].append(seconds)
    return found


def compare(
    what: str,
    ours: list[float],
    against: str,
    theirs: list[float],
    *,
    target: float | None = None,
    inverse: bool = False,
) -> Row:
    """Compare round by round; with `inverse`, by how many times slower the other is, and `target` is the lowest."""
    pairs = zip(ours, theirs, strict=True)
    ratios = [b / a if inverse else a / b for a, b in pairs]
    return Row(
        what=what,
        ours=median(ours),
        against=against,
        theirs=median(theirs),
        ratio=median(ratios),
        target=target,
        least=inverse,
    )


def table(rows: list[Row]) -> str:
    """Return rows as a table of text; times are those of one page, request or import."""
    lines = [("", "ours", "against", "", "ratio", "target", "")]
    for row in rows:
        wanted = "" if row.target is None else f"{'>=' if row.least else '<='} {row.target:g}"
        verdict = "" if row.target is None else ("met" if row.met else "MISSED")
        lines.append((row.what, _time(row.ours), row.against, _time(row.theirs), f"{row.ratio:.2f}", wanted, verdict))
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds < 1e-2 else f"{seconds * 1e3:,.1f} ms"  # noqa: PLR2004 - for reading
