"""Where alerts go: the log, and a file or standard output with a JSON line for each. Webhooks are in `webhook.py`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from agora_analytics._core import files, validation
from agora_analytics._core.decoding.json import encode
from agora_analytics._core.futures import wait_until_done
from agora_analytics.ops.alerts.alert import Alert

__all__ = ["AlertFile", "AlertLog", "AlertSink"]

log = logging.getLogger("agora_analytics.alerts")

MAX_PENDING: Final = 1_000
"""Alerts that a sink keeps until it can deliver them; beyond that the oldest is lost, and that is logged."""

STDOUT: Final = "-"


class AlertSink(Protocol):
    """A receiver of alerts.

    `evaluate` saves `pending` alerts with its state, so that they are sent again after a restart, with the same keys,
    to the sinks that had not delivered them. A sink is recognised by its attribute `key`, a text that names the
    receiver; one without a `key` by its class, and several of one class by their order.
    """

    async def send(self, alert: Alert) -> None:
        """Accept an alert; must neither fail nor wait for a receiver: what is not delivered yet is `pending`."""

    def pending(self) -> Sequence[Alert]:
        """Return the alerts that were accepted and not delivered yet, oldest first."""

    async def flush(self) -> None:
        """Deliver what is pending, within a bound of time."""


class AlertLog:
    """Writes alerts to the log `agora_analytics.alerts`: `WARNING`, and `INFO` for a recovery."""

    async def send(self, alert: Alert) -> None:
        """Log an alert; `agora_alert` of the record is the alert itself."""
        level = logging.INFO if alert.kind == "recovered" else logging.WARNING
        log.log(level, "%s", alert.text, extra={"agora_alert": alert})

    def pending(self) -> Sequence[Alert]:
        """Return nothing: logging is done at once."""
        return ()

    async def flush(self) -> None:
        """Do nothing."""


class AlertFile:
    """Appends alerts to a file as JSON lines, or writes them to standard output for the path `-`.

    A file is synced to the disk. If that fails, as on a full disk, the alerts are kept, up to 1,000, and written with
    the next one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = STDOUT if path == STDOUT else validation.path("path", path)
        self._pending: deque[Alert] = deque()
        self._writing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"AlertFile({str(self.path)!r})"

    @property
    def key(self) -> str:
        """Identifies the file over restarts."""
        return f"file {self.path}"

    async def send(self, alert: Alert) -> None:
        """Write an alert."""
        keep(self._pending, alert, repr(self))
        await self.flush()

    def pending(self) -> Sequence[Alert]:
        """Return the alerts that could not be written yet."""
        return tuple(self._pending)

    async def flush(self) -> None:
        """Write what is pending; an error is logged."""
        async with self._writing:  # the evaluations of several watches may share a file
            await self._write_pending()

    async def _write_pending(self) -> None:
        alerts = tuple(self._pending)
        if not alerts:
            return
        lines = b"".join(encode(alert) + b"\n" for alert in alerts)
        work = asyncio.get_running_loop().run_in_executor(None, self._write, lines)
        try:
            await wait_until_done(work)
        except OSError as error:
            log.warning("alerts cannot be written to %s and are kept: %s", self.path, error.strerror or error)
            return
        # Also for a cancellation: what was written must not be written again.
        finally:
            if not work.cancelled() and work.exception() is None:
                written = set(map(id, alerts))  # the oldest may have been dropped meanwhile for want of room
                self._pending = deque(alert for alert in self._pending if id(alert) not in written)

    def _write(self, lines: bytes) -> None:
        if isinstance(self.path, str):
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Opened each time: a file that was moved away by a rotation is made again.
        with files.opened(self.path, "ab") as file:
            start = file.tell()
            try:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(file.fileno(), start)  # no half line stays
                raise


def keep(pending: deque[Alert], alert: Alert, sink: str) -> None:
    """Add an alert to what is pending, and log one that is lost for want of room."""
    pending.append(alert)
    if len(pending) > MAX_PENDING:
        lost = pending.popleft()
        log.warning("%s: the alert %s is lost, as %d others wait: %s", sink, lost.key, MAX_PENDING, lost)
