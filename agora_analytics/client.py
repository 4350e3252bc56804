"""The client: credentials and settings in, the three groups of endpoints out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

import attrs

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Dispatcher, OnBadRow, RequestOptions
from agora_analytics._core.redaction import fingerprint
from agora_analytics._core.retry import Retry
from agora_analytics._core.transport import HOSTS, AiohttpTransport, Credentials, Timeouts
from agora_analytics.endpoints.base import Scope
from agora_analytics.plans import Plan
from agora_analytics.protocols import CheckpointStore, Ledger, RequestObserver, Transport, WallClock
from agora_analytics.quota.ledger_state import MemoryLedger
from agora_analytics.quota.limiters import Limiters
from agora_analytics.quota.priority import Priority
from agora_analytics.quota.quota import Quota
from agora_analytics.quota.service_time import ServiceTime

if TYPE_CHECKING:
    import aiohttp

    from agora_analytics.endpoints.calls import Calls
    from agora_analytics.endpoints.insights import Insights
    from agora_analytics.endpoints.realtime import Realtime
    from agora_analytics.export.exporter import Exporter

__all__ = ["AnalyticsClient"]

_SHORT = 8
"""Characters of the shortest App ID that is abbreviated."""

_ONCE: Final = RequestOptions(retry=Retry(attempts=1, total=0.0), max_rate_limited=0)
"""One attempt, also after a rate-limit error."""


class AnalyticsClient:
    """Reads the Agora Analytics REST API and keeps every quota of the plan.

    ```python
    async with AnalyticsClient.from_env() as client:
        page = await client.calls.page(*client.calls.recent(timedelta(hours=1)))
        print(page.total_size, "calls in the last hour")
    ```

    May be constructed anywhere. It opens at the first request and belongs to the event loop of that request. Close it
    with `async with` or `close()`. Raises `ValueError` or `TypeError` for settings that cannot work.

    Args:
        customer_id: Customer ID from Agora Console.
        customer_secret: its secret; no error, log or `repr` shows it.
        app_id: App ID of the project; `with_app` returns a client for another.
        plan: the account's pricing plan, by name or as a `Plan` with negotiated numbers.
        base_url: one host, or several for failover; by default the two main ones.
        session: your own `aiohttp.ClientSession`; it is not closed with the client.
        timeouts: seconds for one attempt.
        retry: how often and how long to retry.
        max_wait: seconds that one interactive request may wait. If quota takes longer, it raises `QuotaExhausted`; if
            a `Retry-After` is longer, the error that has it. None: no limit, but an hour for a `Retry-After`.
        max_bytes: bytes of the largest answer that is read, after decompression.
        read_ahead: prefetch the next page while you process the current one.
        ledger: stores the count of requests and the service's clock; by default in memory, for this client alone. A
            `FileLedger` shares both with other processes of the machine and survives restarts.
        close_ledger: close the ledger with the client; by default that is up to you, as others may use it too.
        quotas: False disables rate limiting, for accounts that are limited elsewhere.
        on_bad_row: "skip" leaves out what does not fit the reference (a row, a sample), logs a warning and lists it in
            the answer's `skipped`; "raise" raises `DecodeError`.
        checkpoints: stores the positions of streams by name, such as `FileCheckpoints(folder)`.
        transport: carries requests instead of aiohttp, as the simulator's does; it is closed with the client.
        clock: a function that returns seconds since 1970 in UTC by the host's clock.
        observers: are called for each request, for metrics and traces.

    """

    calls: Calls
    """Call Inspector: calls, sessions, metrics and statistics; `calls.follow()` yields what happens to calls."""

    def __init__(
        self,
        customer_id: str,
        customer_secret: str,
        *,
        plan: Plan | str,
        app_id: str | None = None,
        base_url: str | Sequence[str] = HOSTS,
        session: aiohttp.ClientSession | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        max_wait: float | None = 120.0,
        max_bytes: int = 256 * 2**20,
        read_ahead: bool = True,
        ledger: Ledger | None = None,
        close_ledger: bool = False,
        quotas: bool = True,
        on_bad_row: OnBadRow = "skip",
        checkpoints: CheckpointStore | None = None,
        transport: Transport | None = None,
        clock: WallClock = time.time,
        observers: Iterable[RequestObserver] = (),
    ) -> None:
        # Each setting is checked where it is passed on: longer than 25 lines for that.
        try:
            credentials = Credentials(customer_id, customer_secret)
        finally:
            del customer_secret  # error reporters show the arguments of every frame
        # Made although another may be given: its settings are checked in any case, and it opens nothing yet.
        opened = AiohttpTransport(
            credentials,
            hosts=_hosts(base_url),
            session=session,
            timeouts=validation.none_or(validation.instance, "timeouts", timeouts, Timeouts),
            max_bytes=validation.int_in_range("max_bytes", max_bytes, 1, 2**63 - 1),
        )
        limiters = Limiters(
            Plan.of(plan),
            MemoryLedger() if ledger is None else _ledger(ledger),
            # Stored in the ledger, which must hold no credentials.
            account=fingerprint(customer_id),
            clock=validation.function("clock", clock, "a function that returns seconds since 1970"),
            enforce=validation.boolean("quotas", quotas),
        )
        self._ledger = ledger if validation.boolean("close_ledger", close_ledger) else None
        self._dispatcher = Dispatcher(
            opened if transport is None else _transport(transport),
            limiters,
            retry=Retry() if retry is None else validation.instance("retry", retry, Retry),
            max_wait=None if max_wait is None else validation.number_in_range("max_wait", max_wait, endless=True),
            on_bad_row=cast("OnBadRow", validation.one_of("on_bad_row", on_bad_row, ("skip", "raise"))),
            observers=_observers(observers),
        )
        scope = Scope(
            app_id=validation.none_or(validation.app_id, "app_id", app_id),
            read_ahead=validation.boolean("read_ahead", read_ahead),
            checkpoints=None if checkpoints is None else _store(checkpoints),
        )
        self._make_groups(scope)

    @classmethod
    def from_env(cls, **settings: Any) -> Self:
        """Return a client with settings from the environment; keyword arguments override them.

        Reads `AGORA_CUSTOMER_ID`, `AGORA_CUSTOMER_SECRET`, `AGORA_PLAN` and, where set, `AGORA_APP_ID` and
        `AGORA_BASE_URL` (several separated by commas). Raises `ValueError` that names missing variables.
        """
        names = {
            "customer_id": "AGORA_CUSTOMER_ID",
            "customer_secret": "AGORA_CUSTOMER_SECRET",
            "plan": "AGORA_PLAN",
            "app_id": "AGORA_APP_ID",
            "base_url": "AGORA_BASE_URL",
        }
        # An empty variable counts as none.
        found: dict[str, Any] = {name: os.environ[key] for name, key in names.items() if os.environ.get(key)}
        if "base_url" in found:
            found["base_url"] = [url.strip() for url in found["base_url"].split(",")]
        found |= settings
        missing = [names[name] for name in ("customer_id", "customer_secret", "plan") if name not in found]
        if missing:
            found.clear()
            settings.clear()
            raise ValueError(f"environment: {', '.join(missing)} not set")
        try:
            return cls(**found)
        finally:
            found.clear()  # of the secret: see above
            settings.clear()

    def with_app(self, app_id: str) -> AnalyticsClient:
        """Return a client for another App ID that shares this one's connections and quotas; close only this one."""
        return self._scoped(app_id=validation.app_id("app_id", app_id))

    def with_priority(self, priority: Priority | str) -> AnalyticsClient:
        """Return a client that shares this one's connections and quotas, with this priority; close only this one.

        Interactive requests come first, then streams, then exports. Interactive requests wait for quota for at most
        `max_wait` seconds, the others as long as it takes.

        Raises `ValueError` for any other name.
        """
        chosen = Priority(validation.one_of("priority", priority, Priority))
        return self._scoped(options=attrs.evolve(self._scope.options, priority=chosen))

    @property
    def plan(self) -> Plan:
        """The pricing plan: endpoints, rate limits, retention."""
        return self._dispatcher.plan

    @property
    def quota(self) -> Quota:
        """What the plan still allows: `await client.quota.snapshot()`."""
        return self._dispatcher.quota

    @cached_property
    def insights(self) -> Insights:
        """Data Insights: usage and quality by hour and day."""
        # Imported at first use: not every program needs it.
        from agora_analytics.endpoints.insights import Insights  # noqa: PLC0415

        return Insights(self._dispatcher, self._scope)

    @cached_property
    def realtime(self) -> Realtime:
        """Real-time Monitoring: usage and quality in 20-second windows."""
        from agora_analytics.endpoints.realtime import Realtime  # noqa: PLC0415 - as above

        return Realtime(self._dispatcher, self._scope)

    @cached_property
    def export(self) -> Exporter:
        """Exports into files: `await client.export.run(Selection(start, end), "folder")`."""
        from agora_analytics.export.exporter import Exporter  # noqa: PLC0415 - as above

        return Exporter(self._dispatcher, self._scope)

    async def close(self) -> None:
        """Close what the client opened; pending requests fail, further ones raise `RuntimeError`.

        A ledger that you passed stays open, unless `close_ledger=True`.
        """
        try:
            await self._dispatcher.close()
        finally:
            if self._ledger is not None:
                await self._ledger.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        """Raise `TypeError`: a pickle or copy would hold the secret, and connections cannot be shared."""
        raise TypeError(
            "a client is not pickled or copied, as it holds the secret and connections: make one where it is used, for"
            " example with AnalyticsClient.from_env(), or use with_app() or with_priority()"
        )

    def __repr__(self) -> str:
        made = vars(self)  # a debugger may call this before the constructor is done
        if "_dispatcher" not in made or "_scope" not in made:
            return "AnalyticsClient(not made)"
        return f"AnalyticsClient(plan={self.plan.name!r}, app_id={app_of(self)!r})"

    def _scoped(self, **changes: Any) -> AnalyticsClient:
        # Not the constructor, which would need the secret again: only the transport has it.
        other = object.__new__(type(self))
        other._dispatcher, other._ledger = self._dispatcher, self._ledger
        other._make_groups(attrs.evolve(self._scope, **changes))
        return other

    def _make_groups(self, scope: Scope) -> None:
        # Now, and not at the first request: it takes 30 ms, which would hold an event loop that runs by then.
        from agora_analytics.endpoints.calls import Calls  # noqa: PLC0415 - importing the package stays quick

        self._scope = scope
        self.calls = Calls(self._dispatcher, scope)


def service_time(client: AnalyticsClient) -> ServiceTime:
    """Return the service's time as a client knows it, for the library's own programs."""
    return client._dispatcher.time  # noqa: SLF001 - no part of a client's public face


def dispatcher_of(client: AnalyticsClient) -> Dispatcher:
    """Return what the clients of an account share, for the library's own programs."""
    return client._dispatcher  # noqa: SLF001 - no part of a client's public face


def scope_of(client: AnalyticsClient) -> Scope:
    """Return a client's App ID and options, for the library's own programs."""
    return client._scope  # noqa: SLF001 - as above


def with_options(client: AnalyticsClient, **changes: Any) -> AnalyticsClient:
    """Return a client with other `RequestOptions`, for the library's own programs."""
    return client._scoped(options=attrs.evolve(client._scope.options, **changes))  # noqa: SLF001 - as above


def app_of(client: AnalyticsClient) -> str | None:
    """Return the first four characters of a client's App ID, or all of a short one: enough to tell two apart."""
    app = client._scope.app_id  # noqa: SLF001 - as above
    return app if app is None or len(app) < _SHORT else f"{app[:4]}…"


def with_fixed_cost(client: AnalyticsClient, max_wait: float) -> AnalyticsClient:
    """Return a client whose requests are sent once and as given, for the library's own programs.

    What a method costs is known beforehand then: nothing is retried, moved or fetched ahead.
    """
    options = attrs.evolve(_ONCE, max_wait=max_wait)
    return client._scoped(options=options, check_age=False, read_ahead=False)  # noqa: SLF001 - as above


def _hosts(base_url: object) -> tuple[str, ...]:
    """Return base URLs; an error does not show the value, which may hold credentials."""
    one = isinstance(base_url, str)
    if not one and not (isinstance(base_url, Sequence) and all(isinstance(url, str) for url in base_url)):
        raise TypeError(f"base_url: allowed is a str or a list of str, not {type(base_url).__name__} (value not shown)")
    return validation.non_empty_strs("base_url", (base_url,) if one else base_url)


def _ledger(ledger: Ledger) -> Ledger:
    return validation.with_members("ledger", ledger, "a Ledger, such as FileLedger(path)", "change")


def _store(checkpoints: CheckpointStore) -> CheckpointStore:
    allowed = "a CheckpointStore, such as FileCheckpoints(folder)"
    return validation.with_members("checkpoints", checkpoints, allowed, "load", "save", "acquire", "release")


def _transport(transport: Transport) -> Transport:
    return validation.with_members("transport", transport, "a Transport", "hosts", "send", "close")


def _observers(observers: Iterable[RequestObserver]) -> tuple[RequestObserver, ...]:
    allowed = "a RequestObserver, such as ops.OpenTelemetry()"
    return tuple(
        validation.with_members(f"observers[{place}]", observer, allowed, "request_started")
        for place, observer in enumerate(validation.as_list("observers", observers, "observers"))
    )
