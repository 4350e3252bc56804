"""Listeners: functions that are called with each event, for code that only observes a stream."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from agora_analytics._core import validation

T = TypeVar("T")

log = logging.getLogger("agora_analytics.streams")


@attrs.define(eq=False)
class _Listener(Generic[T]):
    function: Callable[[T], object]
    failed: bool = False

    def __call__(self, value: T, whose: str) -> None:
        """Call the function; an exception ends nothing, and is logged once, as the next event may raise it again."""
        try:
            self.function(value)
        # It is called synchronously, so a CancelledError here is the listener's own.
        except (Exception, asyncio.CancelledError):
            if not self.failed:
                log.exception("%s: a listener failed; its further exceptions are not logged", whose)
            self.failed = True


class Listeners(Generic[T]):
    """The functions that listen to one source, which the log calls `whose`."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._listeners: list[_Listener[T]] = []

    def add(self, function: Callable[[T], object], takes: str = "an event") -> Callable[[], None]:
        """Add a function, and return what removes it; that does not keep the source alive, and may be called again.

        Raises `TypeError` for what is no function.
        """
        listener = _Listener(validation.function("listener", function, f"a function that takes {takes}"))
        # A new list, as `tell` may be iterating over this one.
        self._listeners = [*self._listeners, listener]
        return _Removal(weakref.ref(self), listener)

    def remove(self, listener: _Listener[T]) -> None:
        """Remove a listener, if it is there."""
        self._listeners = [one for one in self._listeners if one is not listener]

    def notify(self, value: T) -> None:
        """Call all functions; one that is added or removed by another counts from the next call on."""
        for listener in self._listeners:
            listener(value, self._whose)


@attrs.frozen(eq=False)
class _Removal(Generic[T]):
    listeners: weakref.ref[Listeners[T]]
    listener: _Listener[T]

    def __call__(self) -> None:
        if (listeners := self.listeners()) is not None:
            listeners.remove(self.listener)
