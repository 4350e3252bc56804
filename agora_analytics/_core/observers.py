"""Notifies observers of each request; one that raises is switched off, and the request goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import attrs

from agora_analytics._core.wire import NotSentError
from agora_analytics.errors import QuotaExhausted, RateLimited
from agora_analytics.plans import Endpoint, Plan
from agora_analytics.protocols import Attempt, AttemptResult, Outcome, RequestObserver, RequestResult, RequestTrace

T = TypeVar("T")
TargetT = TypeVar("TargetT")

_OUTCOMES: Final[tuple[tuple[type[BaseException], Outcome], ...]] = (
    (asyncio.CancelledError, "cancelled"),
    # The garbage collector closes a request whose task was destroyed while it waited.
    (GeneratorExit, "cancelled"),
    (QuotaExhausted, "quota"),
    (RateLimited, "refused"),
    (NotSentError, "skipped"),
)

log = logging.getLogger("agora_analytics")


class Unobserved:
    """A request, and each attempt of it, that no observer listens to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def waiting(self) -> None:
        """Record that an attempt begins to wait for its permit."""

    def attempt(self, host: int) -> Unobserved:  # noqa: ARG002 - nobody listens
        """Return the context in which an attempt is sent to a host."""
        return self

    def answered(self, status: int) -> None:
        """Record that the whole response to an attempt has arrived, with its HTTP status."""


_UNOBSERVED: Final = Unobserved()


class Observers:
    """The observers of a client; `addresses` are the name and port of each host, as far as they are known."""

    def __init__(
        self, observers: Sequence[RequestObserver], plan: Plan, addresses: Sequence[tuple[str, int | None]] = ()
    ) -> None:
        self.plan = plan
        self.addresses = tuple(addresses)
        self._observers = tuple(map(_Guarded, observers))

    def add(self, observer: RequestObserver) -> None:
        """Add an observer; it is notified of the requests that start from now on."""
        # A new tuple: requests that are under way keep the observers that they started with.
        self._observers += (_Guarded(observer),)

    def remove(self, observer: RequestObserver) -> None:
        """Remove an observer; it is still notified of the requests that it knows, to their end."""
        self._observers = tuple(one for one in self._observers if one.observer is not observer)

    def request(self, endpoint: Endpoint, priority: str) -> Unobserved:
        """Return the context of a request: it starts with this call, and ends when the context is left."""
        # One object for all: a request that nobody observes pays next to nothing.
        if not self._observers:
            return _UNOBSERVED

        def start(observer: RequestObserver) -> RequestTrace | None:
            return observer.request_started(endpoint, priority)

        started = [(one, one.call(start, one.observer)) for one in self._observers]
        traces = [(one, trace) for one, trace in started if trace is not None]
        return _Observed(self, endpoint, traces) if traces else _UNOBSERVED


@attrs.define(eq=False)
class _Guarded:
    """An observer that is not called again once it has raised."""

    observer: RequestObserver
    failed: bool = False

    def call(self, function: Callable[[TargetT], T], target: TargetT) -> T | None:
        """Call a function with the observer or one of its traces; return None once one call has raised."""
        if self.failed:
            return None
        try:
            return function(target)
        # It is called synchronously, so a CancelledError here is the observer's own and not the request's.
        except (Exception, asyncio.CancelledError) as error:
            self.failed = True
            name = type(self.observer).__name__
            log.error("observer %s raised, and is switched off", name, exc_info=error)  # noqa: TRY400 - any error
            return None


class _Observed(Unobserved):
    """A request that observers listen to."""

    def __init__(self, observers: Observers, endpoint: Endpoint, traces: list[tuple[_Guarded, RequestTrace]]) -> None:
        self.now = asyncio.get_running_loop().time
        self._observers = observers
        self._counter = observers.plan.counter(endpoint)
        self._traces = traces
        self._attempts = 0
        self._begun = self._waits_since = self.now()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        outcomes = (outcome for cause, outcome in _OUTCOMES if isinstance(error, cause))
        result = RequestResult(
            outcome="ok" if error is None else next(outcomes, "error"), seconds=self.now() - self._begun, error=kind
        )
        self.notify(lambda trace: trace.request_ended(result))

    def waiting(self) -> None:
        self._waits_since = self.now()

    def attempt(self, host: int) -> _ObservedAttempt:
        self._attempts += 1
        addresses = self._observers.addresses
        # A transport of the user's own may have no `addresses`.
        address, port = addresses[host] if host < len(addresses) else ("", None)
        attempt = Attempt(
            number=self._attempts,
            counter=self._counter,
            waited=self.now() - self._waits_since,
            host=host,
            address=address,
            port=port,
        )
        self.notify(lambda trace: trace.attempt_started(attempt))
        return _ObservedAttempt(self, attempt)

    def notify(self, call: Callable[[RequestTrace], None]) -> None:
        for observer, trace in self._traces:
            observer.call(call, trace)


class _ObservedAttempt(Unobserved):
    """An attempt of such a request."""

    def __init__(self, request: _Observed, attempt: Attempt) -> None:
        self._request = request
        self._attempt = attempt
        self._sent = request.now()
        self._received: float | None = None
        self._status: int | None = None

    def answered(self, status: int) -> None:
        self._received, self._status = self._request.now(), status

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # Decoding is left out: it is not the service's time.
        ended = self._request.now() if self._received is None else self._received
        result = AttemptResult(
            seconds=ended - self._sent,
            status=self._status,
            error=kind,
            request_id=getattr(error, "request_id", None),
        )
        self._request.notify(lambda trace: trace.attempt_ended(self._attempt, result))
