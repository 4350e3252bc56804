"""Endpoints as streams read them: each request is for the span of the moment at which it is sent."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

import attrs

from agora_analytics import _checks, _merge, endpoints
from agora_analytics._retry import Retry
from agora_analytics._session import Manner, OnSkipped, Session
from agora_analytics.endpoints import Question, Scope, Timely
from agora_analytics.models import CallPage, Point, SessionPage
from agora_analytics.quota import Lane
from agora_analytics.streams._series import Query, Series, queries

_MAX_WAIT: Final = 60.0
"""Seconds that a stream's request waits in line for quota; longer waits are the stream's own, where health tells."""

_MANNER: Final = Manner(lane=Lane.STREAM, retry=Retry(attempts=2), max_wait=_MAX_WAIT, refusals=0)
"""What fails is made up for by the next poll, so once more is enough; a stream waits for quota by itself."""


def _of_streams(scope: Scope) -> Scope:
    return attrs.evolve(scope, manner=_MANNER, read_ahead=False)


class _Reader:
    """What both readers can do."""

    _manner: Manner

    def tell(self, on_skipped: OnSkipped) -> None:
        """Tell of rows that do not fit from now on."""
        self._manner = attrs.evolve(self._manner, on_skipped=on_skipped)


class WindowReader(_Reader, endpoints.Realtime):
    """Reads real-time windows, with the fewest queries that serve all series."""

    def __init__(self, session: Session, scope: Scope, series: Sequence[Series]) -> None:
        super().__init__(session, _of_streams(scope))
        self.queries = queries(series)
        self.questions = tuple(map(self._question, self.queries))

    def _question(self, query: Query) -> Question:
        by = (query.dimension, query.dimension_values)
        if query.usage:
            return self._usage(query.metric, query.product, query.cname, *by)
        return self._quality(query.metric, query.product, query.cname, *by, uids=query.uids)

    async def read(self, question: Question, span: Timely) -> tuple[Point, ...]:
        """Return the answer to a question, in order of time."""
        answer = await self._fetch_timely(question.endpoint, question.decode, lambda: question.over(span()))
        return _merge.points([answer.items])


class CallReader(_Reader, endpoints.Calls):
    """Reads the lists of calls, and the sessions of one."""

    def __init__(self, session: Session, scope: Scope) -> None:
        super().__init__(session, _of_streams(scope))

    def lists(self, span: Timely, number: int, cname: str | None = None) -> Coroutine[Any, Any, CallPage]:
        """Return a page of calls."""
        return self._page(span, number, cname, _checks.PAGE_SIZE)

    def details(self, call_id: str, span: Timely, number: int) -> Coroutine[Any, Any, SessionPage]:
        """Return a page of the sessions of a call."""
        return self._sessions_page(call_id, span, number, _checks.PAGE_SIZE, (), exclude_server_user=True)
