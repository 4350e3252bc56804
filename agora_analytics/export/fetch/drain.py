"""Ends a run in good order (graceful shutdown): the answers to what was sent are saved, and nothing more is sent.

A request waits for quota inside the dispatcher, for hours if need be, and is sent there. So the dispatcher says when a
request is about to be sent (`Drain.sending`); until then it can be given up at no cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs

from agora_analytics._core.wire import NotSentError

T = TypeVar("T")


class RequestsEnded(NotSentError):
    """The run is to send no further request: it has made `max_requests`, or it drains."""


@attrs.define(eq=False)
class Drain:
    """Whether a run drains, and the timeouts, by task, of requests and pauses that end as soon as it does.

    Attributes:
        event: set by the user's code; the same event may serve several runs.
        on_begin: called as the run begins to drain.

    """

    event: asyncio.Event = attrs.field(factory=asyncio.Event)
    on_begin: Callable[[], None] = attrs.field(init=False, default=lambda: None)
    _is_draining: bool = attrs.field(init=False, default=False)
    _unsent: dict[asyncio.Task[object] | None, asyncio.Timeout] = attrs.field(init=False, factory=dict)

    @property
    def is_draining(self) -> bool:
        """Whether nothing more is to be sent; that stays so if the event is cleared for another run."""
        return self._is_draining or self.event.is_set()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """End waits, and call `on_begin`, as soon as the run is to drain; `RuntimeError` for another loop's event."""
        watching = asyncio.ensure_future(self._watch())
        try:
            await asyncio.sleep(0)
            if watching.done() and watching.exception() is not None:
                raise RuntimeError("drain belongs to another event loop: make the event in the one of the export")
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        await self.event.wait()
        self._is_draining = True
        for waiting in self._unsent.values():
            waiting.reschedule(0.0)
        self.on_begin()

    def sending(self) -> None:
        """Let the request of this task be answered, whatever follows; raise `RequestsEnded` if it comes too late."""
        if self.is_draining:
            raise RequestsEnded
        self._unsent.pop(asyncio.current_task(), None)

    async def unless_draining(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`; raise `RequestsEnded` if the run drains before a request of it is sent."""
        if self.is_draining:
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
