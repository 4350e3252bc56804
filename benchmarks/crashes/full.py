"""Exports on a disk that is full before they are done, and is enlarged later."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import attrs

from benchmarks.crashes.exporter import Job, Machine
from benchmarks.crashes.rows import Found, Truth, compared, files_of, read, unlike_manifest

_SHARES: Final = (0.05, 0.15, 0.3, 0.5, 0.7, 0.9)
"""Sizes of the disk, as shares of what the whole export takes."""

_SCRIPT: Final = (
    'mount -t tmpfs -o size="$1" tmpfs "$2" && folder="$2" && saved="$3" && shift 3; "$@";'
    ' mount -o remount,size=1G "$folder"; "$@"; code=$?; cp -a "$folder" "$saved"; exit $code'
)


def can_mount() -> bool:
    """Whether small disks can be mounted here that only the export sees."""
    command = ("unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own
    )


@attrs.define(kw_only=True)
class DiskResults:
    """The results of full disks for an export of a format."""

    form: str
    disks: int = 0
    full: int = 0
    found: Found = attrs.field(factory=Found)
    undisturbed: int = 0
    most: int = 0
    broken: list[str] = attrs.field(factory=list)

    def row(self) -> str:
        """Return it as a line of the table."""
        found = self.found
        rows = f"{found.true:9,} {found.found:9,} {found.doubled:9} {found.lost:9} {found.strange:9}"
        return f"{self.form:8} {self.disks:9} {self.full:9} {rows} {self.undisturbed:11,} {self.most:9,}"


HEAD: Final = f"{'':8} " + " ".join(
    f"{name:>9}" for name in ("disks", "full", "true", "found", "doubled", "lost", "strange", "undisturbed", "requests")
)


async def filled(form: str, job: Job, folder: Path, truth: Truth) -> DiskResults:
    """Export onto small disks, which grow."""
    results, machine = DiskResults(form=form), Machine(folder / "home", job)
    job.counter.begin()
    whole = await machine.run(folder / "whole", form)
    results.undisturbed = whole.requests
    size = sum(path.stat().st_size for path in (folder / "whole").rglob("*"))
    rows = sum(path.stat().st_size for path in files_of(folder / "whole"))
    for share in _SHARES:
        small, saved = folder / "small", folder / f"saved {share}"
        small.mkdir(exist_ok=True)
        begun = ("unshare", "-rm", "sh", "-c", _SCRIPT, "sh", str(int(size * share)), str(small), str(saved))
        ended = await machine.run(small, form, before=begun)
        _look(results, share, ended.report, saved, truth, full=size * share < rows)
        results.most = max(results.most, ended.requests)
    results.broken += [f"a process is left: {line}" for line in machine.left]
    return results


def _look(
    results: DiskResults, share: float, last: dict[str, object], saved: Path, truth: Truth, *, full: bool
) -> None:
    """Check that a full disk is reported as such, and that all rows are there in the end.

    The disk must have been `full` if the files alone, without the state, take more.
    """
    results.disks += 1
    first = last.get("first", {})
    assert isinstance(first, dict)  # noqa: S101 - as the worker prints it
    results.full += "kind" in first
    if not first.get("complete") and first.get("kind") != "disk":
        results.broken.append(f"{results.form}, a disk of {share:.0%}: reported as {first}")
    if full and "kind" not in first:
        results.broken.append(f"{results.form}, a disk of {share:.0%}: it was never full, {first}")
    if not last.get("complete"):
        results.broken.append(f"{results.form}, a disk of {share:.0%}: with room again, {last}")
        return
    found = compared(truth, read(saved))
    if not found or found.found != results.found.found:
        results.found = found
    if not found or (wrong := unlike_manifest(saved)):
        results.broken.append(f"{results.form}, a disk of {share:.0%}: {found}, {wrong if found else ''}")
