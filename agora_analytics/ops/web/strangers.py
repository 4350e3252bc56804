"""Connections of clients that have not shown the token: few, so that they cannot take all that the server accepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from agora_analytics.ops.web.guard import Guard

MAX_STRANGERS: Final = 100
"""More than the browsers need that ask for the token; the oldest of these connections makes room for a new one."""


class Strangers:
    """Remembers which connections have shown the token, if the server has one."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._known: set[web.RequestHandler] = set()

    @web.middleware
    async def note_token(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Remember the connection of a request with the token."""
        if self._guard.is_authorised(request):
            self._known.add(request.protocol)
        return await handler(request)

    def make_room(self, connections: Sequence[web.RequestHandler]) -> None:
        """Close the oldest connection without the token if there are too many; `connections` are all, oldest first."""
        if not self._guard.has_token:
            return
        # Only now: connections that have closed are no longer among them.
        self._known.intersection_update(connections)
        strangers = [one for one in connections if one not in self._known]
        for one in strangers[: max(0, len(strangers) - MAX_STRANGERS + 1)]:
            one.force_close()
