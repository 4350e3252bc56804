"""`client.calls`, with the stream over it, which is loaded by those who follow."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from agora_analytics import _checks, endpoints
from agora_analytics._session import Session
from agora_analytics.endpoints import Scope
from agora_analytics.spans import Instant

if TYPE_CHECKING:
    from agora_analytics.streams import Checkpoint, Follow
    from agora_analytics.streams._period import Beginning


class Calls(endpoints.Calls):
    """`client.calls`: the six endpoints of Call Inspector, and calls as they begin and end."""

    def __init__(self, session: Session, scope: Scope) -> None:
        super().__init__(session, scope)
        self._scope = scope

    def follow(
        self,
        *,
        start: Beginning = None,
        stop: Instant | None = None,
        checkpoint: str | Checkpoint | None = None,
        allowance: int = 300,
        every: int = 60,
        drill: bool = False,
        late_sessions: bool = True,
    ) -> Follow:
        """Yield what happens to calls, for as long as you iterate: each start, change and end once.

        A `CallStarted` comes when a call is first seen, a `CallChanged` when one that goes on looks different, a
        `CallFinished` when it is over, and a `CallLost` where nobody will see its end: it was deleted, or began before
        what the plan keeps. Calls that appear late are found within `allowance` seconds. What nobody can ask for any
        more is a `Gap` with the reason.

        With `drill=True` a call that is over comes with its sessions, as soon as the plan lets them be asked for. They
        have a budget of their own, the day's requests for details less a tenth for people: where it is spent, or they
        are refused or fail for minutes, the call comes without and with the reason, and they follow as `CallSessions`
        if they can be had later, unless `late_sessions=False`.

        It begins where its `checkpoint` is (see `realtime.watch`), or at `start` (a moment, or a `timedelta` before the
        newest that can be asked for, by the service's clock), or with what begins from now on. It ends when all calls
        that began before `stop` are over, or never. The list is read every `every` seconds, less often where the day's
        requests do not allow it. Calls that go on are looked at again the less often the longer they last.

        Raises `ValueError` or `TypeError` for bad arguments; while iterating, `CheckpointError`, and what ends a
        stream: `BadRequest`, `NotFound`, `PlanRefused`, `LedgerError` or `Unauthorized` before anything was answered,
        and later `Unauthorized` alone, after an hour. `GET /beta/analytics/call/lists`,
        `GET /beta/analytics/call/sessions`.
        """
        from agora_analytics.streams._follow import Follow, Settings  # noqa: PLC0415
        from agora_analytics.streams._period import Period  # noqa: PLC0415
        from agora_analytics.streams._place import place_of  # noqa: PLC0415
        from agora_analytics.streams._readers import CallReader  # noqa: PLC0415

        period = Period.of(start, stop)
        settings = Settings(
            start=period.start,
            back=period.back,
            stop=period.stop,
            allowance=_checks.number("allowance", allowance, 0),
            every=_checks.number("every", every, 1),
            drill=_checks.flag("drill", drill),
            late_sessions=_checks.flag("late_sessions", late_sessions),
        )
        stream = f"follow {sha256(self._app().encode()).hexdigest()[:16]}"
        reader = CallReader(self._session, self._scope)
        place = place_of(stream, checkpoint, self._scope.checkpoints)
        return Follow(reader, self._session.quota, settings, place)
