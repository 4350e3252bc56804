"""The pipeline of every request: wait for quota, send, check the status, decode, and retry.

A `Retry-After` is waited for here, within limits. Each attempt costs one permit of the quota.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Generic, Literal, TypeVar

import attrs

from agora_analytics._core import wire
from agora_analytics._core.decoding.codec import Decode
from agora_analytics._core.decoding.scanner import Steps
from agora_analytics._core.observers import Observers, Unobserved
from agora_analytics._core.redaction import in_steps, without_app, without_escapes
from agora_analytics._core.retry import HostSelector, Retry
from agora_analytics.errors import AgoraError, DecodeError, RateLimited, ResponseError
from agora_analytics.models import Answer, BadRow
from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Request, RequestObserver, Response, Transport
from agora_analytics.quota.limiters import Limiters
from agora_analytics.quota.priority import Priority
from agora_analytics.quota.quota import Quota
from agora_analytics.spans import Span

AnswerT = TypeVar("AnswerT", bound=Answer)
T = TypeVar("T")

OnBadRow = Literal["skip", "raise"]
"""What to do with an item of an answer that does not fit the reference."""

_MAX_RETRY_AFTER = 3_600.0
"""Longest `Retry-After` in seconds that is honoured where `max_wait` is None."""

_MAX_SLICE = 0.002
"""Seconds of work between two yields to the event loop."""

_SUCCESSES = range(200, 300)
_MAX_QUOTED = 131_072
"""Bytes of a failed response that are kept for errors to quote."""

log = logging.getLogger("agora_analytics")


OnSkipped = Callable[[Endpoint, Sequence[BadRow]], None]
"""Is called with the endpoint and the rows of an answer that were left out."""

OnSending = Callable[[], None]
"""Is called when a request is about to be sent; it raises `NotSentError` to end that."""


@attrs.frozen(kw_only=True)
class RequestOptions:
    """Priority, retries (None: the dispatcher's) and waiting time of requests.

    `max_wait` is seconds in all (None: the dispatcher's for interactive requests; streams and exports wait as long as
    it takes). `max_rate_limited` is how many `RateLimited` one request retries before it raises. `on_skipped` gets the
    rows of each answer that were left out because they do not fit. `on_sending` is called for each attempt that has its
    permit, just before it is sent; a `NotSentError` that it raises ends the request. `host` is the index of the host to
    send to (None: as failover decides).
    """

    priority: Priority = Priority.INTERACTIVE
    retry: Retry | None = None
    max_wait: float | None = None
    max_rate_limited: int = 5
    on_skipped: OnSkipped | None = None
    on_sending: OnSending | None = None
    host: int | None = None


_DEFAULT_OPTIONS = RequestOptions()

SpanProvider = Callable[[], Span]
"""Returns the span to fetch, each time a request is about to be sent; raises `NothingToFetchError` for none."""

BuildRequest = Callable[[], Request]
"""Builds the request of one attempt just before it is sent; raises `NothingToFetchError` if there is nothing left."""


@attrs.frozen(eq=False, repr=False)
class _PendingRequest(Generic[AnswerT]):
    endpoint: Endpoint
    build: BuildRequest
    decode: Decode[AnswerT]
    app: str
    trace: Unobserved


class _Owner:
    """The event loop, thread and process that first used a dispatcher.

    `get_running_loop` and `getpid` are system calls before Python 3.12, so requests compare the thread, which runs one
    loop at a time, and a process id that a fork hook updates.
    """

    current = os.getpid()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.process = _Owner.current
        self._thread = threading.get_ident()

    def is_current(self) -> bool:
        """Whether the caller is certainly in the same loop and process."""
        # A thread may run one loop after another, so the owner's must still be running.
        return self._thread == threading.get_ident() and self.loop.is_running() and self.process == _Owner.current

    @classmethod
    def forked(cls) -> None:
        """Update the process id after a fork."""
        cls.current = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Owner.forked)


class Dispatcher:
    """Sends typed requests inside the plan; belongs to the event loop and the process that first use it."""

    def __init__(
        self,
        transport: Transport,
        limiters: Limiters,
        *,
        retry: Retry,
        max_wait: float | None,
        on_bad_row: OnBadRow = "skip",
        observers: Sequence[RequestObserver] = (),
    ) -> None:
        self.plan = limiters.plan
        self.limiters = limiters
        self.quota = Quota(limiters)
        self.time = limiters.time
        self.max_wait = max_wait
        self._transport = transport
        self._retry = retry
        self._random = Random()  # noqa: S311 - jitter, no secret
        self._hosts = HostSelector(transport.hosts)
        self._owner: _Owner | None = None
        self._closed = False
        self._strict = on_bad_row == "raise"
        self.observers = Observers(observers, limiters.plan, getattr(transport, "addresses", ()))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The base URL of each host, or its number if the transport does not know it."""
        urls: tuple[str, ...] = getattr(self._transport, "base_urls", ())
        return urls or tuple(f"host {number}" for number in range(1, self._transport.hosts + 1))

    async def fetch(
        self,
        endpoint: Endpoint,
        build: BuildRequest,
        decode: Decode[AnswerT],
        options: RequestOptions = _DEFAULT_OPTIONS,
        *,
        app: str = "",
    ) -> AnswerT:
        """Send a request, retry it as the policy allows, and return its decoded answer.

        `build` is called for each attempt once it has its permit, so that times in the request are current however
        long it waited. An error in `build` ends the fetch and returns the permit.

        Waits for quota at most `max_wait` seconds in all. Raises the errors of `agora_analytics.errors`, and
        `RuntimeError` if the client is closed or belongs to another loop or process.
        """
        # One loop whose steps share the state of the request: longer than 25 lines for that.
        loop = self._bind_loop()
        begun = loop.time()
        failed: AgoraError | None = None
        rate_limited = 0
        with self.observers.request(endpoint, options.priority) as trace:
            pending = _PendingRequest(endpoint, build, decode, app, trace)
            # No bound here: `_retry_delay` gives up, and does not count rate-limit errors as attempts.
            for attempt in count(1):
                remaining = self._remaining_wait(options, loop.time() - begun)
                host = options.host
                if host is None:
                    host = self._hosts.current and self._hosts.pick(loop.time())  # 0, nearly always: nothing to pick
                try:
                    answer = await self._attempt(pending, host, remaining, options)
                    while answer is None:
                        # Whatever blocks the loop so long must not keep others from running as well.
                        await asyncio.sleep(0)
                        remaining = self._remaining_wait(options, loop.time() - begun)
                        answer = await self._attempt(pending, host, remaining, options)
                except AgoraError as error:
                    error.request = error.request or _describe(pending)
                    self._hosts.report_failure(host, error, loop.time())
                    rate_limited += isinstance(error, RateLimited)
                    wait = self._retry_delay(options, error, attempt, rate_limited, loop.time() - begun)
                    wait = self._cap_retry_after(wait, error, options, loop.time() - begun)
                    if wait is None:
                        # The attempt before is the cause: that the quota is spent may follow from its rate-limit error.
                        raise error from failed
                    failed = error
                else:
                    self._hosts.report_success(host)
                    if options.on_skipped and (rows := [one for one in answer.skipped if one.whole]):
                        options.on_skipped(endpoint, rows)
                    return answer
                log.info("attempt %d failed, retrying in %.1f s: %s", attempt, wait, failed)
                await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Refuse further requests and close the transport; may be called twice."""
        # First, so that requests that wait for quota or between two attempts are not sent any more.
        self._closed = self.limiters.closed = True
        try:
            await self._transport.close()
        finally:
            await self.limiters.close()

    def _ensure_open(self) -> None:
        if self._closed:
            raise RuntimeError("this client is closed")

    def _bind_loop(self) -> asyncio.AbstractEventLoop:
        """Bind to the running loop at the first request; raise `RuntimeError` in any other loop or process."""
        self._ensure_open()
        owner = self._owner
        if owner is not None and owner.is_current():
            return owner.loop
        candidate = _Owner(asyncio.get_running_loop())
        if owner is None:
            self._owner = candidate
        elif owner.loop is not candidate.loop or owner.process != candidate.process:
            what = "event loop" if owner.process == candidate.process else "process (it was forked)"
            raise RuntimeError(f"this client belongs to another {what}: make one client for each")
        return candidate.loop

    def _retry_delay(
        self, options: RequestOptions, error: AgoraError, attempt: int, rate_limited: int, elapsed: float
    ) -> float | None:
        """Return seconds until the next attempt, None to give up."""
        if isinstance(error, RateLimited) and self.limiters.enforced and rate_limited <= options.max_rate_limited:
            # The limiter has learned from it and delays the next attempt itself.
            return error.retry_after or 0.0
        # Attempts at a failing service alone: a rate-limit error is the limiter's affair.
        return (options.retry or self._retry).delay(error, attempt - rate_limited, elapsed, self._random)

    def _cap_retry_after(
        self, wait: float | None, error: AgoraError, options: RequestOptions, elapsed: float
    ) -> float | None:
        """Give up on a `Retry-After` beyond what is left of `max_wait`; without `max_wait`, wait an hour at most."""
        retry_after = error.retry_after if isinstance(error, ResponseError) else None
        if wait is None or not retry_after:
            return wait
        remaining = self._remaining_wait(options, elapsed)
        if remaining is None:
            return min(wait, _MAX_RETRY_AFTER)
        return wait if wait <= remaining else None

    def _remaining_wait(self, options: RequestOptions, elapsed: float) -> float | None:
        """Return how long a request may still wait for quota; None (streams and exports) means without limit."""
        most = options.max_wait
        if most is None and options.priority is Priority.INTERACTIVE:
            most = self.max_wait
        return None if most is None else max(0.0, most - elapsed)

    async def _attempt(
        self, pending: _PendingRequest[AnswerT], host: int, remaining: float | None, options: RequestOptions
    ) -> AnswerT | None:
        """Wait for a permit and send; return None if that came too late for the permit, and nothing was sent."""
        pending.trace.waiting()
        async with self.limiters.permit(pending.endpoint, remaining, options.priority, pending.app) as permit:
            # Until the request is built, whatever goes wrong returns the permit.
            permit.sent = False
            self._ensure_open()  # closed while this request waited?
            request = pending.build()
            # The last look at the clock before the request is the transport's.
            if permit.too_late():
                return None
            if options.on_sending is not None:
                options.on_sending()
            permit.sent = True
            with pending.trace.attempt(host) as attempt:
                try:
                    response = await self._transport.send(request, host)
                    # Before decoding, whose time would widen the bounds of the service's clock.
                    permit.answered(wire.server_date(response), host)
                    attempt.answered(response.status)
                    log.debug("%s -> HTTP %d, %d bytes", request, response.status, len(response.body))
                    answer = await self._read(request, response, pending.decode)
                except AgoraError as error:
                    error.request = error.request or str(request)  # building it again may count as another attempt
                    raise
            _log_skipped(request, answer)
            return answer

    async def _read(self, request: Request, response: Response, decode: Decode[AnswerT]) -> AnswerT:
        """Check and decode a response; errors quote it without credentials and App ID."""
        try:
            answer = await self._decode_response(request, response, decode)
        except AgoraError:
            # Only for what is quoted: to scrub every answer would cost more than to decode it.
            clean = await self._scrubbed(request, response)
            if clean is None:
                raise
        else:
            # Skipped rows quote it too.
            clean = await self._scrubbed(request, response) if answer.skipped else None
            if clean is None:
                return answer
        # Outside of `except`, or the error with the secrets would stay as this one's context.
        return await self._decode_response(request, clean, decode)

    async def _scrubbed(self, request: Request, response: Response) -> Response | None:
        """Return a response without secrets; None if there are none in it, so that it is decoded once."""

        def scrub(piece: bytes) -> bytes:
            plain = without_escapes(piece)
            clean = without_app(self._transport.scrub(plain), request.app_id)
            # Unescaped only where that uncovered a secret; otherwise what is quoted stays as it came.
            return piece if clean == plain else clean

        headers = {
            name: scrub(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
            for name, value in response.headers.items()
        }
        # Of a failed response only the beginning is quoted; any other is decoded whole.
        quoted = response.body if response.status in _SUCCESSES else response.body[:_MAX_QUOTED]
        body = await in_turns(in_steps(quoted, scrub))
        if body is quoted and headers == dict(response.headers):
            return None
        return attrs.evolve(response, headers=headers, body=body)

    async def _decode_response(self, request: Request, response: Response, decode: Decode[AnswerT]) -> AnswerT:
        """Check the status and the code, and decode; an error code wins over a body that does not fit."""
        wire.raise_for_status(request, response)
        try:
            answer = await in_turns(decode.steps(response.body, strict=self._strict))
        except DecodeError as error:
            wire.raise_for_code(request, response, getattr(error, "answer", Answer()))
            error.request_id = wire.request_id(response, getattr(error, "answer", Answer()))
            raise
        wire.raise_for_code(request, response, answer)
        return answer


def _log_skipped(request: Request, answer: Answer) -> None:
    if answer.skipped:
        log.warning(
            "%s: %d rows of the answer do not fit the reference, the first at %s: %s",
            request,
            len(answer.skipped),
            answer.skipped[0].path,
            answer.skipped[0].reason,
        )


async def in_turns(steps: Steps[T]) -> T:
    """Run a generator of steps, and yield to the event loop every few milliseconds."""
    begun = time.perf_counter()
    while True:
        try:
            work = next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        if work is not None:
            # What cannot be cut into steps, such as loading a module, holds a thread and not the loop.
            await asyncio.to_thread(work)
        elif time.perf_counter() - begun > _MAX_SLICE:
            await asyncio.sleep(0)
            begun = time.perf_counter()


def _describe(pending: _PendingRequest[AnswerT]) -> str:
    """Return the request as text, or the endpoint where none can be built."""
    try:
        return str(pending.build())
    except (wire.NothingToFetchError, ValueError):
        return str(pending.endpoint)
