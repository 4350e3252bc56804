"""What follows when a turn of a job fails: it is tried again, here or elsewhere, and no other job waits for it."""

from __future__ import annotations

import logging
from typing import Final

from agora_analytics._core.retry import backoff
from agora_analytics.errors import AgoraError, CheckpointError, ExportError, LedgerError, Unauthorized
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account
from agora_analytics.fleet.queue import JobTakenError
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.fleet.status import JobStatus

FAILURES: Final = (AgoraError, ValueError, TypeError, OSError)
"""What a turn may fail with; anything else is a fault of this program or of the user's, and is logged whole."""

_LONGEST_TEXT: Final = 500
"""Of an error in a status: each worker and each page reads the statuses of all jobs."""

_MAX_PAUSE: Final = 300.0
_MAX_STORE_PAUSE: Final = 5.0
"""Longest pauses in seconds before a job is tried again: after an error of its own, and after one of a store."""

log = logging.getLogger("agora_analytics.fleet")


async def pause_after(
    error: BaseException, status: JobStatus, account: Account, reporter: Reporter, pool: ClientPool, *, is_taken: bool
) -> float:
    """Write a failure down, and return the seconds until the job is tried again.

    Raises `JobTakenError` if another worker has the job, which then writes the status.
    """
    key, text = status.key, _text(error)
    if isinstance(error, Unauthorized):
        # With the next turn the secret is read again: it may have been rotated.
        await pool.forget(account.name)
    if not isinstance(error, (*FAILURES, JobTakenError)):
        log.error("worker %s: %s failed by a fault of a program", reporter.worker, key, exc_info=error)
    if is_taken:
        reporter.forget(key)
        log.warning("worker %s: %s was taken over: %s", reporter.worker, key, text)
        raise JobTakenError from error
    failures = status.failures + 1
    await reporter.end(key, failures=failures, error=text)
    # A store is back for all jobs at once; what is wrong with one account may take a person.
    of_store = isinstance(error, LedgerError) or _is_busy(error)
    # Repeated warnings of one kind are only counted: one account must not hide what another one's trouble is.
    kind = {"throttle_kind": type(error).__name__ if of_store else f"{account.name} {type(error).__name__}"}
    log.warning("worker %s: %s failed (%d in a row): %s", reporter.worker, key, failures, text, extra=kind)
    return backoff(1.0, failures, _MAX_STORE_PAUSE if of_store else _MAX_PAUSE)


def _text(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"[:_LONGEST_TEXT]
    if isinstance(error, CheckpointError) and error.kind == "invalid":
        return f"{text} In a fleet: give a job with other series another name."
    return text


def is_takeover(error: BaseException) -> bool:
    """Return whether a turn failed because another worker has the job."""
    if isinstance(error, JobTakenError):
        return True
    if isinstance(error, CheckpointError):
        return error.kind == "taken_over"
    return isinstance(error, ExportError) and error.kind == "superseded"


def _is_busy(error: BaseException) -> bool:
    """Whether the store is away, or a stopped worker still has the place or the files of the job: both end soon."""
    if isinstance(error, CheckpointError):
        # What is saved may also be of another stream, or damaged: that takes a person.
        return error.kind in {"store", "in_use"}
    return isinstance(error, ExportError) and error.kind == "running"
