"""What a refusal is about: one call, one span, one source, one App ID, or the credentials, which ends the run.

A refusal is an item's own only if others are answered after it. For a span, a source and an App ID small questions find
that out: about the same source, about others of the App ID, about other App IDs. A question that meets trouble of its
own (a busy service, a broken connection) tells nothing of the item. A call's refusal waits for the answer
about another call; one question about the list of calls stands in for it where several were refused in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import AgoraError, PlanRefused, RateLimited, Unauthorized
from agora_analytics.export.fetch.fetcher import Asking, OutOfBudgetError, TooOldError, log
from agora_analytics.export.fetch.skip_reasons import APP, DETAILS, is_access, may_be_own, reason_in_full, reason_of
from agora_analytics.export.fetch.sources import CallSource, Groups, Source
from agora_analytics.export.report import Skipped
from agora_analytics.export.state.progress import PendingCall, PendingSlice, State
from agora_analytics.export.state.state_thread import Disk
from agora_analytics.spans import Span, merged

_ROW: Final = 8
"""Calls refused in a row after which the service is asked whether it answers anything."""

_OTHERS: Final = 3
"""Other sources of an App ID that are asked for, to tell whether it is the App ID that is refused."""

_UNDERSTOOD: Final = frozenset({"latency", "length", "range"})
"""Refusals of a span: who is told so is known to the service, and may ask."""


@attrs.frozen
class _Suspect:
    """A call whose details were refused, when so many requests had been made."""

    call: PendingCall
    error: AgoraError
    made: int


class Refusals:
    """Finds out, for one run, what each refusal is about, and remembers what is left out for it.

    What is left out stays in the state as it is, so that the next run asks for it again; but a call is left out there.
    """

    def __init__(
        self,
        session: Dispatcher,
        disk: Disk,
        asking: Asking,
        groups: Mapping[str, Groups],
        sources: Mapping[str, Source],
    ) -> None:
        self._session = session
        self._disk = disk
        self._asking = asking
        self._groups = groups
        self._sources = sources
        self._out: dict[tuple[str, str], str] = {}
        self._slices: dict[int, tuple[PendingSlice, str]] = {}
        self._suspects: list[_Suspect] = []
        self._heard: set[str] = set()
        self._lock = asyncio.Lock()
        self._trouble: AgoraError | None = None

    def has(self, app: str, what: str) -> bool:
        """Whether a source or the details of an App ID are left out."""
        return (app, APP) in self._out or (app, what) in self._out

    def has_slice(self, one: PendingSlice) -> bool:
        """Whether a slice, or its source, is left out."""
        return one.id in self._slices or self.has(one.app, one.source)

    def with_details(self) -> list[str]:
        """Return the App IDs whose calls can be asked about."""
        return [app for app in self._groups if not self.has(app, DETAILS)]

    async def of_slice(self, one: PendingSlice, error: AgoraError) -> None:
        """Leave out what the refusal of a slice is about; raises it where it is about everything.

        One that is too long is about the plan, and all others are as long.
        """
        if isinstance(error, PlanRefused) and error.kind == "length":
            raise error
        async with self._lock:
            self._trouble = None
            if self.has(one.app, one.source):
                return
            if await self._answers(one.app, one.source):
                self._slices[one.id] = (one, reason_in_full(error))
                log.warning("export: %s of %s is left out: %s", one.source, one.slice.span, error)
            elif await self._any(one.app, one.source) or self._is_untold(one.app, one.source, error):
                self._leave_out(one.app, one.source, error)
            else:
                await self._leave_out_app(one.app, error)

    @property
    def suspected(self) -> list[int]:
        """The calls that were refused, and of which it is not found out yet why."""
        return [one.call.id for one in self._suspects]

    async def of_call(self, call: PendingCall, error: AgoraError) -> None:
        """Note that a call is refused; raises it where everything is."""
        self._suspects.append(_Suspect(call, error, self._asking.made))
        if len(self._suspects) >= _ROW:
            await self.settle()

    async def heard(self, app: str, made: int) -> None:
        """Leave out the calls that were refused before another was asked about, which was answered.

        `made` is how many requests had been made before.
        """
        self._heard.add(app)
        if self._suspects:
            await self._own([one for one in self._suspects if one.call.app == app and one.made <= made])

    async def settle(self) -> None:
        """Find out what the refusals of calls are about that nothing was answered after."""
        async with self._lock:
            for app in dict.fromkeys(one.call.app for one in self._suspects):
                try:
                    await self._settle(app)
                except OutOfBudgetError:
                    return  # they are asked about by the next run

    async def _settle(self, app: str) -> None:
        self._trouble = None
        mine = [one for one in self._suspects if one.call.app == app]
        if not mine:
            return
        error = mine[0].error
        if not self.has(app, DETAILS):
            if not (await self._any(app, "") or self._is_untold(app, "", error)):
                await self._leave_out_app(app, error)
            elif app not in self._heard and all(is_access(one.error) for one in mine):
                self._leave_out(app, DETAILS, error)
            else:
                await self._own(mine)
        self._suspects = [one for one in self._suspects if one not in mine]

    async def _own(self, suspects: list[_Suspect]) -> None:
        """Leave out calls whose refusals are their own, but for those that are left out meanwhile."""
        mine = [one for one in self._suspects if one in suspects]
        self._suspects = [one for one in self._suspects if one not in mine]
        for one in mine:
            log.warning("export: call %s is left out: %s", one.call.call_id, one.error)

        def leave_out(state: State) -> None:
            for one in mine:
                state.leave_out(one.call.id, reason_of(one.error))

        if mine:
            await self._disk.change(leave_out)

    async def _leave_out_app(self, app: str, error: AgoraError) -> None:
        """Leave out an App ID, where another one is answered; raises the error where none is."""
        for other in self._groups:
            if other != app and not self.has(other, APP) and await self._any(other, ""):
                self._leave_out(app, APP, error)
                return
        # What met trouble of its own is no answer about anything: then that is what ends the run.
        raise self._trouble or error

    def _leave_out(self, app: str, what: str, error: AgoraError) -> None:
        self._out[app, what] = reason_in_full(error)
        log.warning("export: %s of the App ID %s is left out: %s", "all" if what == APP else what, app, error)

    async def _any(self, app: str, but: str) -> bool:
        """Whether the service answers about any source of an App ID, but for one; that of calls first."""
        names = [name for name in self._sources if name != but and not self.has(app, name)]
        calls_first = sorted(names, key=lambda name: not isinstance(self._sources[name], CallSource))
        for name in calls_first[:_OTHERS]:
            if await self._answers(app, name):
                return True
        return False

    def _is_untold(self, app: str, but: str, error: AgoraError) -> bool:
        """Whether nothing is left to ask an App ID about, so that only a refusal of who asks speaks against it."""
        others = [name for name in self._sources if name != but]
        return bool(others) and all(self.has(app, name) for name in others) and not isinstance(error, Unauthorized)

    async def _answers(self, app: str, name: str) -> bool:
        """Whether the service answers a small question about a source of an App ID; raises what is about neither."""
        source = self._sources[name]
        limits, now = self._session.plan.of_endpoint(source.endpoint), self._session.now()
        middle = (limits.oldest(now) + limits.newest(now)) // 2
        try:
            await self._asking.briefly(source.about(self._groups[app], app, middle).ask)
        except TooOldError:
            return True
        except AgoraError as error:
            if not may_be_own(error):
                raise
            if error.retryable or isinstance(error, RateLimited):
                self._trouble = error
            return isinstance(error, PlanRefused) and error.kind in _UNDERSTOOD
        return True

    # What is told

    def pending(self, state: State, min_users: int) -> int:
        """Return how many of the slices and calls that the state has to be asked for are left out."""
        slices = sum(map(self.has_slice, state.slices()))
        apps = [app for app in self._groups if self.has(app, DETAILS)]
        return slices + sum(state.pending_of(app, min_users) for app in apps)

    def skipped(self, span: Span) -> Iterator[Skipped]:
        """Yield what is left out of a span that was asked for, calls aside."""
        for (app, what), reason in self._out.items():
            yield Skipped(app_id=app, what=what, reason=reason, span=span, again=True)
        alike: dict[tuple[str, str, str], list[Span]] = {}
        for one, reason in self._slices.values():
            if not self.has(one.app, one.source):
                alike.setdefault((one.app, one.source, reason), []).append(Span(one.slice.span.start, one.slice.keep))
        for (app, source, reason), spans in alike.items():
            for each in merged(spans):
                yield Skipped(app_id=app, what=source, reason=reason, span=each, again=True)
