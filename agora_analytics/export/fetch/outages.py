"""How long a run waits for an outage to end, and its waits for a ledger that is down.

A ledger in a store on another host, or in a file that another program locks, may fail for seconds: no request is sent
meanwhile. As for streams, that is an outage if the ledger has worked in this run, and else a mistake, such as a wrong
URL, which ends the run at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

import attrs

from agora_analytics._core.retry import backoff
from agora_analytics.errors import AgoraError, LedgerError

T = TypeVar("T")

LONGEST_OUTAGE: Final = 900.0
"""Seconds of an outage after which a run fails, and can be resumed."""

WARN_AFTER: Final = 10.0
"""Seconds of failures after which retries are logged as warnings: a stuck export must not look like a working one."""

_FIRST_PAUSE: Final = 1.0
_LAST_PAUSE: Final = 10.0
"""Pauses in seconds before the ledger is used again: short, since that costs no request."""

_NEW_OUTAGE_AFTER: Final = 120.0
"""Seconds without a failure after which the next one begins another outage: while the ledger is down, one follows the
other, but all workers of a run may wait a night for the quota of the next day."""

log = logging.getLogger("agora_analytics")


@attrs.define
class LedgerWaits:
    """The waits of all workers of a run for its ledger."""

    _has_worked: bool = False
    _failing_since: float = 0.0
    _failed_at: float = -math.inf
    _random: Random = attrs.field(factory=Random)

    async def until_used(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call that uses the ledger; it is made again while a ledger that has worked fails.

        Raises `LedgerError` before the ledger has worked, and after a quarter of an hour; all other errors at once.
        """
        failures = 0
        while True:
            try:
                result = await call()
            except LedgerError as error:
                failures += 1
                if (pause := self._pause(failures)) is None:
                    raise
                level = logging.WARNING if self._failed_at - self._failing_since >= WARN_AFTER else logging.INFO
                log.log(level, "export: the quota ledger failed, retrying in %.1f s: %s", pause, error)
            except AgoraError:
                self._worked()  # the request had its permit
                raise
            else:
                self._worked()
                return result
            await asyncio.sleep(pause)

    def _worked(self) -> None:
        self._has_worked, self._failed_at = True, -math.inf

    def _pause(self, failures: int) -> float | None:
        """Record a failure, and return the seconds until the ledger is used again; None to give up."""
        now = asyncio.get_running_loop().time()
        if now > self._failed_at + _NEW_OUTAGE_AFTER:
            self._failing_since = now
        self._failed_at = now
        longest = backoff(_FIRST_PAUSE, failures - 1, _LAST_PAUSE)
        # Half of it is fixed: many workers fail at once, and none of them may retry at once.
        pause = self._random.uniform(longest / 2, longest)
        return pause if self._has_worked and now + pause <= self._failing_since + LONGEST_OUTAGE else None
