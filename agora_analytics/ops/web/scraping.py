"""A server that only has `/metrics`, for a program without a page."""

from __future__ import annotations

from aiohttp import web

from agora_analytics.ops.web.api import MetricsRenderer
from agora_analytics.ops.web.guard import Guard, add_headers
from agora_analytics.ops.web.routes import GUARD


def metrics_only(renderer: MetricsRenderer, *, any_host: bool) -> web.Application:
    """Return an application to listen with; without `any_host` it answers only under an address or `localhost`."""
    guard = Guard(None, ())

    async def metrics(request: web.Request) -> web.Response:
        # A page on the internet could read what a server on loopback says under a name of its own (DNS rebinding).
        if not any_host and not guard.knows_host(request):
            return web.Response(status=421, text="this server is not known under that Host\n")
        body, kind = await renderer.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    application = web.Application()
    application[GUARD] = guard
    application.add_routes([web.get("/metrics", metrics)])
    application.on_response_prepare.append(add_headers)
    return application
