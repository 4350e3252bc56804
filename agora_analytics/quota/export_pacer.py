"""The pace of exports: the only file that imports aiolimiter, and only once there is an export."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


class Pace:
    """One step every `period` seconds, without bursts, however long it rested."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._limiter: AsyncLimiter | None = None

    async def step(self) -> None:
        """Wait for the next step."""
        if self._limiter is None:
            from aiolimiter import AsyncLimiter  # noqa: PLC0415 - most programs export nothing

            self._limiter = AsyncLimiter(1, self._period)
        await self._limiter.acquire()
