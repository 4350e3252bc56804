"""The handlers of what costs requests: GET shows the price and what is there already, POST loads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from aiohttp import web

from agora_analytics._core.decoding.json import encode
from agora_analytics.ops.web.board import CallEntry
from agora_analytics.ops.web.loads import Load, Loader, LoadError, QuoteView
from agora_analytics.ops.web.parts import CallParts
from agora_analytics.ops.web.replies import RefusalError, failed, json_body, json_response, raw_response
from agora_analytics.ops.web.span_loads import SpanLoads
from agora_analytics.ops.web.state import LiveState

Maker = Callable[[Mapping[str, Any]], Load]


@attrs.frozen(kw_only=True)
class CallView:
    """`GET /api/v1/calls/{id}`: what is known of a call, and what more can be loaded."""

    event: str
    entry: CallEntry
    parts: list[QuoteView]


class LoadApi:
    """What costs requests."""

    def __init__(self, state: LiveState) -> None:
        self._state = state
        self.loader = Loader(state.client.plan, lambda: state.monitor.quota, state.now, state.monitor.refresh)
        self._parts = CallParts(state.client, state.now)
        self._spans = SpanLoads(state.client, state.calls, state.now)

    async def call(self, request: web.Request) -> web.Response:
        """A call, and the price of each part of its details."""
        entry = self._entry(request)
        parts = [self.loader.quote(load) for load in self._parts.standard(entry.call)]
        return json_response(CallView(event=self._state.feed.event_id, entry=entry, parts=parts))

    async def show_part(self, request: web.Request) -> web.Response:
        """One part of the details: its price, or its data if it is there."""
        return self._show(self._part(request)(request.query))

    async def load_part(self, request: web.Request) -> web.Response:
        """Load a part."""
        return await self._load(request, self._part(request))

    async def show_search(self, request: web.Request) -> web.Response:
        """The price of a page of calls, or that page if it is there."""
        return self._show(self._spans.search(request.query))

    async def load_search(self, request: web.Request) -> web.Response:
        """Load a page of calls."""
        return await self._load(request, self._spans.search)

    async def show_insight(self, request: web.Request) -> web.Response:
        """The price of an insight, or its data if it is there."""
        return self._show(self._spans.insight(request.query))

    async def load_insight(self, request: web.Request) -> web.Response:
        """Load an insight."""
        return await self._load(request, self._spans.insight)

    def _entry(self, request: web.Request) -> CallEntry:
        entry = self._state.calls.get(request.match_info["call_id"])
        if entry is None:
            raise RefusalError(404, "call", "this call is not known here: search for it by its channel and time")
        return entry

    def _part(self, request: web.Request) -> Maker:
        entry = self._entry(request)
        return lambda values: self._parts.load(entry.call, request.match_info["part"], values)

    def _show(self, load: Load) -> web.Response:
        return _with_data(self.loader.quote(load), self.loader.cached(load))

    async def _load(self, request: web.Request, make: Maker) -> web.Response:
        values = await json_body(request)
        if not self._state.is_open:
            raise RefusalError(503, "closed", "the live state is not open, so what this costs would not be counted")
        try:
            view, data = await self.loader.load(make(values), values.get("price"))
        except LoadError as error:
            return failed(error.error, error.spent)
        return _with_data(view, data)


def _with_data(view: object, data: bytes | None) -> web.Response:
    """Return a value with `data`, which is encoded already."""
    return raw_response(b'%s,"data":%s}' % (encode(view).removesuffix(b"}"), data or b"null"))
