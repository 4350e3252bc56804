"""`client.realtime`, with the streams over it, which are loaded by those who watch."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from agora_analytics import _checks, endpoints
from agora_analytics._session import Session
from agora_analytics.endpoints import Scope
from agora_analytics.plans import REALTIME_USAGE
from agora_analytics.spans import WINDOW, Instant

if TYPE_CHECKING:
    from agora_analytics.streams import Checkpoint, Coverage, Series, Watch
    from agora_analytics.streams._period import Beginning
    from agora_analytics.streams._place import Place


class Realtime(endpoints.Realtime):
    """`client.realtime`: the four endpoints of Real-time Monitoring, and windows without end."""

    def __init__(self, session: Session, scope: Scope) -> None:
        super().__init__(session, scope)
        self._scope = scope

    def watch(
        self,
        *series: Series,
        start: Beginning = None,
        stop: Instant | None = None,
        checkpoint: str | Checkpoint | None = None,
        allowance: int = 120,
        settling: int = 300,
        revisions: bool = True,
        final: bool = False,
        every: int = WINDOW,
        gaps: bool = False,
    ) -> Watch:
        """Yield each 20-second window once and in order, with the points of all series, for as long as you iterate.

        A `Window` comes as soon as all series have it; one that some lack is waited for, `allowance` seconds beyond the
        plan's delay, and then comes with those as `missing`, each with the reason. A value that changes after that, or
        a group that appears, within `settling` seconds, comes as a `Revision` (unless `revisions=False`), also after a
        restart from a checkpoint; the order of rows means nothing, and a row that a later answer lacks stays. With
        `final=True` windows wait until they are settled. An outage is made up for as far back as the plan keeps
        windows; what is lost is a `Gap` with the reason.

        It begins where its `checkpoint` is: a name in the client's `checkpoints`, saved whenever you come back for
        more, or a `Checkpoint` that you keep yourself. Without one yet, at `start` (a moment, or a `timedelta` before
        the newest that can be asked for, by the service's clock), or the newest window. It ends before `stop`, or
        never. It asks as often as the day's requests allow, and not more often than `every` seconds; `plan` tells
        beforehand how often that is.

        Raises `ValueError` or `TypeError` for bad arguments, and for series that the plan cannot carry without gaps
        unless `gaps=True`; while iterating, `CheckpointError`, and what ends a stream: `BadRequest`, `NotFound`,
        `PlanRefused`, `LedgerError` or `Unauthorized` before anything was answered, and later `Unauthorized` alone,
        after an hour. All else is sat out; `health` says what it waits for.
        `GET /beta/realtime/{usage,quality}/by_time_20sec`.
        """
        from agora_analytics.streams._period import Period  # noqa: PLC0415
        from agora_analytics.streams._readers import WindowReader  # noqa: PLC0415
        from agora_analytics.streams._watch import Settings, Watch  # noqa: PLC0415

        period = Period.of(start, stop)
        settings = Settings(
            start=period.start,
            back=period.back,
            stop=period.stop,
            allowance=_checks.number("allowance", allowance, 0),
            settling=_checks.number("settling", settling, 0),
            revisions=_checks.flag("revisions", revisions),
            final=_checks.flag("final", final),
            least=-(-_checks.number("every", every, WINDOW) // WINDOW),
        )
        self._app()
        told = self.plan(*series)
        if not (_checks.flag("gaps", gaps) or told.complete):
            raise ValueError(f"{len(series)} series: {told}; take fewer, or accept them with gaps=True (--gaps)")
        reader = WindowReader(self._session, self._scope, series)
        return Watch(reader, self._session.quota, series, settings, self._place(series, checkpoint))

    def plan(self, *series: Series, every: int = WINDOW) -> Coverage:
        """Say what the plan can do for these series: requests a poll, interval, freshness, and whether all is had.

        That is if all of the day's real-time requests are theirs. Raises `ValueError` where the plan offers none.
        """
        from agora_analytics.streams._cadence import coverage  # noqa: PLC0415
        from agora_analytics.streams._series import Series, queries  # noqa: PLC0415

        if not _checks.instances("series", series, Series):
            raise TypeError("series=(): allowed is one Series or several")
        if len(set(series)) < len(series):
            twice = next(one for one in series if series.count(one) > 1)
            raise ValueError(f"series: {twice} is there twice")
        self._session.plan.of_endpoint(REALTIME_USAGE)
        weights = [query.weight for query in queries(series)]
        return coverage(self._session.plan, weights, -(-_checks.number("every", every, WINDOW) // WINDOW))

    def _place(self, series: tuple[Series, ...], checkpoint: str | Checkpoint | None) -> Place:
        from agora_analytics.streams._place import place_of  # noqa: PLC0415

        told = "\n".join((self._app(), *sorted(map(str, series))))
        stream = f"watch {sha256(told.encode()).hexdigest()[:16]}"
        return place_of(stream, checkpoint, self._scope.checkpoints)
