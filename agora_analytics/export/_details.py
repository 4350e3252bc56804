"""What is asked of one call: its sessions, page by page, their metrics, twenty at a time, and its statistics.

A call's requests follow one another, and each answer is kept together with the place of the next request: its cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from agora_analytics import _checks, _json, _paging
from agora_analytics._session import Session
from agora_analytics.errors import BadRequest, DecodeError, PlanRefused, ServerError
from agora_analytics.export import _batches
from agora_analytics.export._asking import Asking, log
from agora_analytics.export._batches import Batch, unpack
from agora_analytics.export._disk import Disk
from agora_analytics.export._selection import Selection
from agora_analytics.export._sources import Groups
from agora_analytics.export._staged import Packed, packed
from agora_analytics.export._state import DONE, LEFT, PendingCall, State
from agora_analytics.models import Session as User
from agora_analytics.models import SessionMetrics
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.spans import Span

EXPIRED: Final = "expired"
_EDGE: Final = 2
"""Seconds that a question about the very oldest keeps off the edge: time passes before it is sent."""


_BATCHES: Final = _checks.PAGE_SIZE // _checks.SIDS
"""Requests for metrics that the sessions of a page need at most."""


@attrs.frozen
class Cursor:
    """The next request of a call: what, for which part of its span, which page or which of a list."""

    step: str
    part: int = 0
    page: int = 1
    count: int = 0
    number: int = 0


@attrs.frozen
class _Next:
    """A cursor and the sessions whose metrics it asks for; without a cursor the call is done."""

    cursor: Cursor | None
    sids: tuple[str, ...] = ()


_decode = _json.strict(Cursor)


class Details:
    """Asks for the details of calls."""

    def __init__(self, session: Session, selection: Selection, disk: Disk, asking: Asking) -> None:
        self._session = session
        self._selection = selection
        self._disk = disk
        self._ask = asking
        self._limits = session.plan.of_endpoint(CALL_SESSIONS)
        first = "sessions" if selection.sessions else "statistics"
        self._first = Cursor(first)

    async def fetch(self, groups: Groups, call: PendingCall) -> None:
        """Ask for all of a call that is still missing; what the service does not tell is left out, with the reason."""
        try:
            await self._fetch(groups, call)
        except PlanRefused as error:
            if error.kind == "access":
                raise
            await self._leave_out(call, EXPIRED if error.kind == "range" else f"PlanRefused: {error.kind}", error)
        except (BadRequest, DecodeError) as error:
            await self._leave_out(call, type(error).__name__, error)
        except ServerError as error:
            if error.status >= 500:  # noqa: PLR2004 - the host failed; otherwise the service did not like the question
                raise
            await self._leave_out(call, type(error).__name__, error)

    async def _fetch(self, groups: Groups, call: PendingCall) -> None:
        spans = call.span.slices(self._limits.longest_query)
        following = _Next(self._first)
        if call.cursor or self._first.step != "sessions":
            cursor = _decode(call.cursor.encode()) if call.cursor else self._first
            following = await self._disk.change(lambda state: self._go(state, call, cursor))
        while following.cursor is not None:
            if call.span.start < self._limits.oldest(self._session.now()) + _EDGE:
                await self._leave_out(call, EXPIRED)
                return
            step = getattr(self, f"_{following.cursor.step}")
            following = await step(groups, call, spans, following)

    async def _sessions(self, groups: Groups, call: PendingCall, spans: Sequence[Span], here: _Next) -> _Next:
        cursor = here.cursor or self._first
        span = spans[cursor.part]
        page = await self._ask(lambda: groups.calls.sessions_page(call.call_id, *span, page_no=cursor.page))
        count = cursor.count + len(page.items)
        if _paging.more(page, count):
            after = attrs.evolve(cursor, page=cursor.page + 1, count=count)
        elif cursor.part + 1 < len(spans):
            after = Cursor("sessions", part=cursor.part + 1)
        else:
            after = Cursor("metrics" if self._selection.metrics else "statistics")

        first = (cursor.part, cursor.page) == (0, 1)
        alone = first and after.step == "statistics"

        def keep(state: State) -> _Next:
            # Nobody asks again for the sessions of a single page.
            new = _once(page.items) if alone else state.new_sessions(call.id, page.items, first=first)
            if cursor.page > 1 and page.items and not new and len(spans) == 1:
                raise DecodeError(f"page {cursor.page} has no new session: the service does not turn pages")
            if "sessions" in self._selection.datasets:
                state.stage(call.app, call.day, packed(_batches.sessions(call.app, call.call_id, new)))
            return self._go(state, call, after, begun=not alone)

        return await self._disk.change(keep)

    async def _metrics(self, groups: Groups, call: PendingCall, spans: Sequence[Span], here: _Next) -> _Next:
        cursor = here.cursor or self._first
        span = spans[cursor.part]

        async def ask() -> list[SessionMetrics]:
            return [one async for one in groups.calls.metrics(call.call_id, here.sids, *span)]

        found = await self._ask(ask)
        # Packed at once, and session by session: sixteen answers of a hundred thousand points each may wait here.
        pieces = [packed(self._measured(call, found.pop(0))) for _ in range(len(found))]
        last = cursor.part + 1 == len(spans)
        after = attrs.evolve(cursor, part=0 if last else cursor.part + 1, number=cursor.number + last)

        def keep(state: State) -> _Next:
            halves = state.take_halves(call.id) if last else ()
            for piece in _whole((*halves, *pieces)) if halves else pieces:
                if last:
                    state.stage(call.app, call.day, piece)
                else:
                    state.keep_half(call.id, piece)
            return self._go(state, call, after)

        return await self._disk.change(keep)

    async def _statistics(self, groups: Groups, call: PendingCall, spans: Sequence[Span], here: _Next) -> _Next:
        cursor = here.cursor or self._first
        one = self._selection.breakdowns[cursor.number]
        span = spans[cursor.part]
        rows = await self._ask(lambda: groups.calls.statistics(call.call_id, one.metric, one.dimension, *span))
        asked = (one.metric, one.dimension)
        piece = packed(_batches.statistics(call.app, call.call_id, asked, (span.start, span.end), rows))
        part, number = divmod(
            cursor.part * len(self._selection.breakdowns) + cursor.number + 1, len(self._selection.breakdowns)
        )
        after = Cursor("statistics", part=part, number=number) if part < len(spans) else None

        def keep(state: State) -> _Next:
            state.stage(call.app, call.day, piece)
            return self._go(state, call, after)

        return await self._disk.change(keep)

    def _go(self, state: State, call: PendingCall, cursor: Cursor | None, *, begun: bool = True) -> _Next:
        """Keep where a call is, and return what that needs; steps that have nothing to ask are skipped."""
        sids: tuple[str, ...] = ()
        if cursor is not None and cursor.step == "metrics":
            page, batch = divmod(cursor.number, _BATCHES)
            sids = state.sids(call.id, page)[batch * _checks.SIDS : (batch + 1) * _checks.SIDS]
            if not sids and batch:
                return self._go(state, call, Cursor("metrics", number=(page + 1) * _BATCHES))
            cursor = cursor if sids else Cursor("statistics")
        if cursor is not None and cursor.step == "statistics" and not self._selection.breakdowns:
            cursor = None
        if cursor is None:
            state.end_call(call.id, DONE, begun=begun)
        else:
            state.move_on(call, _json.encode(cursor).decode())
        return _Next(cursor, sids)

    def _measured(self, call: PendingCall, found: SessionMetrics) -> Batch:
        mids = self._selection.mids
        wanted = attrs.evolve(found, data=tuple(one for one in found.data if one.mid in mids)) if mids else found
        return _batches.metrics(call.app, call.call_id, (wanted,))

    async def _leave_out(self, call: PendingCall, reason: str, error: Exception | None = None) -> None:
        if error is not None:
            log.warning("export: call %s is left out: %s", call.call_id, error)
        await self._disk.change(lambda state: state.end_call(call.id, LEFT, reason))


def _once(sessions: Sequence[User]) -> tuple[User, ...]:
    """Return sessions, each once."""
    return tuple({one.sid: one for one in sessions}.values())


def _whole(pieces: Sequence[Packed]) -> list[Packed]:
    """Merge what the parts of a call's span told of the same sessions: each moment of a track once."""
    found = [unpack(piece.dataset, piece.stored) for piece in pieces if piece.count]
    return [packed(_batches.joined(found).once("sid", "mid", "peer_uid", "ts"))] if found else []
