"""What a ledger and a checkpoint store have in common that processes on many hosts share."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Protocol, Self

_INHERITED: Final[list[object]] = []
"""What forked children have of their parents; to collect it would close sockets, and stop timers, of both."""


class StoreFailedError(Exception):
    """A store did not answer, or refused; `refused` if a retry does not help. Its text holds no credential.

    A change may have been made all the same.
    """

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class Connections(Protocol):
    """The connections to a store."""

    @property
    def name(self) -> str:
        """Where it is, without credentials."""

    async def close(self) -> None:
        """Close the connections that it opened; it may be used again after it."""

    def forget_connections(self) -> None:
        """Leave the connections alone: they belong to another event loop, or to the parent of a forked process.

        Raises `RuntimeError` in a forked process if they are not the store's to open again.
        """


class SharedStore(ABC):
    """Uses a store over connections that belong to one event loop and process; starts again in another."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()

    @abstractmethod
    async def close(self) -> None:
        """Close the connections; may be called twice, and the store may be used again after it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        # A traceback may show one whose constructor has failed.
        name = self._connections.name if hasattr(self, "_connections") else ""
        return f"{type(self).__name__}({name!r})"

    @abstractmethod
    def _reset(self) -> object:
        """Begin without leases, and return what holds those of another loop or process."""

    def _bind(self) -> None:
        """Start again in another loop or process: leases and connections belong to those in which they were opened."""
        loop, process = asyncio.get_running_loop(), os.getpid()
        if self._loop is loop and self._process == process:
            return
        self._connections.forget_connections()
        left = self._reset()
        if self._process != process:
            _INHERITED.append(left)
        self._loop, self._process = loop, process
