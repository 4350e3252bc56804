"""Ends a run in good order: the answers to what was sent are saved, and nothing more is sent.

A request waits for quota inside the dispatcher, for hours if need be, and is sent there. So the dispatcher says when a
request is about to be sent (`Drain.sending`); until then it can be given up at no cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs

T = TypeVar("T")


class RequestsEnded(Exception):
    """The run is to send no further request: it has made `max_requests`, or it drains."""


@attrs.define(eq=False)
class Drain:
    """Whether a run drains, and the timeouts, by task, of requests and pauses that end as soon as it does.

    Attributes:
        event: set by the user's code; the same event may serve several runs.

    """

    event: asyncio.Event = attrs.field(factory=asyncio.Event)
    _has_begun: bool = attrs.field(init=False, default=False)
    _unsent: dict[asyncio.Task[object] | None, asyncio.Timeout] = attrs.field(init=False, factory=dict)

    @property
    def has_begun(self) -> bool:
        """Whether nothing more is to be sent; that stays so if the event is cleared for another run."""
        self._has_begun = self._has_begun or self.event.is_set()
        return self._has_begun

    @asynccontextmanager
    async def watched(self, on_begin: Callable[[], None]) -> AsyncIterator[None]:
        """End waits as soon as the run is to drain, and call `on_begin` then."""
        watching = asyncio.ensure_future(self._watch(on_begin))
        try:
            await asyncio.sleep(0)
            if watching.done():
                watching.result()  # an event of another loop raises `RuntimeError`
            yield
        finally:
            watching.cancel()

    async def _watch(self, on_begin: Callable[[], None]) -> None:
        await self.event.wait()
        self._has_begun = True
        for waiting in self._unsent.values():
            waiting.reschedule(0.0)
        on_begin()

    def sending(self) -> None:
        """Let the request of this task be answered, whatever follows; raise `RequestsEnded` if it comes too late."""
        if self.has_begun:
            raise RequestsEnded
        self._unsent.pop(asyncio.current_task(), None)

    async def unless_begun(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`; raise `RequestsEnded` if the run drains before a request of it is sent."""
        if self.has_begun:
            raise RequestsEnded
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(None) as waiting:
                self._unsent[task] = waiting
                try:
                    return await work()
                finally:
                    self._unsent.pop(task, None)
        except TimeoutError:
            if waiting.expired():
                raise RequestsEnded from None
            raise
