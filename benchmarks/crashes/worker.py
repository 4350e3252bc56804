"""An export as a process: `python -m benchmarks.crashes.worker TO FORMAT START END OPTIONS`; prints how it ended.

`die` in the options kills it before or after an operation of the file system, or a rename, of that number; with `all`
the process that writes too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from agora_analytics import AgoraError, AnalyticsClient, ExportError, Selection

_WATCHED: Final = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "sqlite3.connect"})


class _Events:
    """Counts the operations of the file system below the folders of the export."""

    def __init__(self, places: tuple[str, ...], die: dict[str, Any] | None) -> None:
        self.seen: Counter[str] = Counter()
        self._places = places
        self._die = die

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Count an operation before it happens, and kill the process if it is time."""
        if event not in _WATCHED or not self._is_ours(args[0]):
            return
        self.seen.update({event: 1, "any": 1})
        if self._die and self._due(event):
            if self._die["all"]:
                _kill_children()
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_ours(self, path: object) -> bool:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return name.startswith(self._places)

    def _due(self, event: str) -> bool:
        """Whether it is time: an operation was seen that many times, and with `after` another one follows it."""
        die = self._die or {}
        seen = self.seen[die["of"]]
        return seen >= die["number"] and (event != die["of"] or not die["after"] or seen > die["number"])


def _kill_children() -> None:
    for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in child.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


async def exported(to: str, form: str, start: int, end: int, options: dict[str, Any]) -> dict[str, Any]:
    """Export with the credentials of the environment, and return how that ended."""
    datasets = options.pop("datasets", ("calls", "sessions", "metrics"))
    mids = options.pop("mids", None)
    filters = {"mids": set(mids)} if mids and "metrics" in datasets else {}
    selection = Selection(start, end, datasets=datasets, **filters)
    async with AnalyticsClient.from_env(quotas=False) as client:
        try:
            report = await client.export.run(selection, to, format=form, concurrency=8, **options)
        except AgoraError as error:
            kind = error.kind if isinstance(error, ExportError) else type(error).__name__
            return {"kind": kind, "wrong": str(error), "hint": error.hint}
    skipped = [[one.what, one.reason, one.rows or one.calls] for one in report.skipped]
    ended = {"rows": dict(report.rows), "complete": report.complete, "skipped": skipped, "requests": report.requests}
    return ended | {"unfinished": report.unfinished, "pending": report.pending}


def _main(to: str, form: str, start: str, end: str, given: str) -> None:
    options = json.loads(given)
    events = _Events((to, os.environ.get("XDG_STATE_HOME", to)), options.pop("die", None))
    sys.addaudithook(events)
    ended = asyncio.run(exported(to, form, int(start), int(end), options))
    print(json.dumps(ended | {"events": dict(events.seen)}), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
