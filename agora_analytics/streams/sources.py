"""The sources of streams, as protocols: `endpoints.stream_sources` implements them with requests."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from agora_analytics._core.dispatcher import OnSkipped, SpanProvider
from agora_analytics.models import CallPage, Point, SessionPage
from agora_analytics.plans import Endpoint
from agora_analytics.streams.watch.series import Query


class WindowSource(Protocol):
    """Answers the queries of a watch; queries are given by their index."""

    @property
    def app_id(self) -> str:
        """The App ID of the project."""

    @property
    def queries(self) -> Sequence[Query]:
        """The queries."""

    def endpoint(self, number: int) -> Endpoint:
        """Return the endpoint of a query."""

    def windows(self, number: int, span: SpanProvider) -> Coroutine[Any, Any, tuple[Point, ...]]:
        """Return the points of a query, in order of time; `span` is called when the request is sent."""

    def on_skipped(self, callback: OnSkipped) -> None:
        """Call `callback` for rows that are skipped from now on."""


class CallPageSource(Protocol):
    """Lists calls, and the sessions of one."""

    @property
    def app_id(self) -> str:
        """The App ID of the project."""

    def call_page(self, span: SpanProvider, number: int, cname: str | None = None) -> Coroutine[Any, Any, CallPage]:
        """Return a page of calls."""

    def session_page(self, call_id: str, span: SpanProvider, number: int) -> Coroutine[Any, Any, SessionPage]:
        """Return a page of the sessions of a call."""

    def on_skipped(self, callback: OnSkipped) -> None:
        """Call `callback` for rows that are skipped from now on."""
