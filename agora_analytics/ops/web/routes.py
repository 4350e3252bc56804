"""`ops.routes`: an aiohttp application with the page, its API, the probes and the metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, Literal
from urllib.parse import parse_qs

from aiohttp import web

from agora_analytics._core import validation
from agora_analytics.client import AnalyticsClient
from agora_analytics.errors import AgoraError
from agora_analytics.ops.web.api import MetricsRenderer, ReadApi
from agora_analytics.ops.web.assets import load_assets
from agora_analytics.ops.web.documents import PageIdentity
from agora_analytics.ops.web.guard import Guard, add_headers
from agora_analytics.ops.web.live import Viewers
from agora_analytics.ops.web.load_api import LoadApi
from agora_analytics.ops.web.replies import RefusalError, bounded_body, failed, refused
from agora_analytics.ops.web.state import LiveState
from agora_analytics.streams.follow.follow import Follow
from agora_analytics.streams.watch.watch import Watch

__all__ = ["routes"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Access = Literal["open", "probe", "page", "data"]
"""Who may use a route: `open` everyone, `probe` everyone and under any `Host`, `page` shows a form that asks for the
token, `data` needs it."""

LIVE_STATE: Final = web.AppKey("agora_analytics.live_state", LiveState)
GUARD: Final = web.AppKey("agora_analytics.guard", Guard)
VIEWERS: Final = web.AppKey("agora_analytics.viewers", Viewers)


def routes(
    source: LiveState | AnalyticsClient,
    *,
    token: str | None = None,
    hosts: Iterable[str] = (),
    metrics: MetricsRenderer | None = None,
    title: str = "",
    simulated: bool = False,
) -> web.Application:
    """Return an application to add to yours: `application.add_subapp("/agora/", ops.routes(client))`.

    It serves the page at `/`, `/healthz`, `/readyz`, `/metrics`, and the API below `/api/v1/`. A `LiveState` that you
    pass is yours to open and close. For a client it makes one with the default series, which is open while the
    application runs; the client is not closed.

    Reading costs no request. What costs requests is a POST, and says its price beforehand.

    Without a `token`, everyone who reaches the server may use it: bind it to 127.0.0.1. Requests under another `Host`
    than an address, `localhost` and `hosts` are refused. Raises `ValueError` or `TypeError` for invalid arguments.

    Args:
        source: the state to serve, or a client.
        token: 16 or more characters that a viewer must know: in a form, or as `Authorization: Bearer …`.
        hosts: names under which the server is reached, without a port.
        metrics: what `/metrics` renders; by default an `ops.Collector` of the client, its two streams, the page and its
            fleet, if the extra `ops` is installed.
        title: shown on the page, to tell several servers apart.
        simulated: whether the page says that its data are simulated.

    """
    try:
        guard = Guard(token, hosts)
    finally:
        del token  # reporters show the arguments of every frame of a traceback
    state = source if isinstance(source, LiveState) else LiveState(source)
    application = web.Application(middlewares=[_errors_as_json])
    application[LIVE_STATE], application[VIEWERS] = state, Viewers(state.feed)
    if metrics is None:
        metrics = _collector(state, application)
    application[GUARD] = guard
    about = PageIdentity(title=title, simulated=validation.boolean("simulated", simulated))
    api = ReadApi(state, application[VIEWERS], metrics, about, trusts=guard.trusts)
    load_api = LoadApi(state)
    site = _Site(guard, api, load_api)
    application.add_routes(site.table())
    application.on_response_prepare.append(add_headers)
    # At shutdown and not at cleanup, which comes only once all handlers have ended.
    application.on_shutdown.append(_end_events)
    application.on_cleanup.append(lambda _: load_api.loader.close())
    if source is not state:
        application.cleanup_ctx.append(_open_state)
    return application


async def _open_state(application: web.Application) -> AsyncIterator[None]:
    async with application[LIVE_STATE]:
        yield


async def _end_events(application: web.Application) -> None:
    """End the streams of all viewers: the server waits for its handlers."""
    application[VIEWERS].close()


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an unknown path or method as any other error."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return refused(RefusalError(404, "path", "there is nothing under this path"))
    except web.HTTPMethodNotAllowed as error:
        answer = refused(RefusalError(405, "method", f"allowed are {', '.join(sorted(error.allowed_methods))}"))
        answer.headers["Allow"] = error.headers["Allow"]
        return answer


def _collector(state: LiveState, application: web.Application) -> MetricsRenderer | None:
    """Return the metrics of a client, its streams and the page, until the application ends; None without `ops`."""
    try:
        from agora_analytics.ops.metrics.collector import Collector  # noqa: PLC0415 - it needs an extra
    except ImportError:
        return None
    collector = Collector(state.client)

    def observe(stream: Watch | Follow) -> None:
        collector.watch(stream) if isinstance(stream, Watch) else collector.follow(stream)

    ignore = state.on_stream(observe)
    if state.fleet is not None:
        collector.fleet(state.fleet)
    collector.page(lambda: (application[VIEWERS].count, state.feed.missed))

    async def close(_: web.Application) -> None:
        ignore()
        collector.close()

    application.on_cleanup.append(close)
    return collector


class _Site:
    """The routes, each behind the guard."""

    def __init__(self, guard: Guard, api: ReadApi, load_api: LoadApi) -> None:
        self._guard = guard
        self._api = api
        self._loads = load_api
        self._assets = load_assets()

    def table(self) -> list[web.RouteDef]:
        """Return all routes."""
        # One line for each: longer than 25 lines for that.
        api, load_api = self._api, self._loads
        reading: dict[str, tuple[Handler, Access]] = {
            "/": (self._page, "page"),
            "/static/{name}": (self._static, "open"),
            "/login": (self._show_login, "open"),
            "/healthz": (api.healthz, "probe"),
            "/readyz": (api.readyz, "probe"),
            "/metrics": (api.metrics, "data"),
            "/api/v1/status": (api.status, "data"),
            "/api/v1/series": (api.series, "data"),
            "/api/v1/calls": (api.calls, "data"),
            "/api/v1/calls/{call_id}": (load_api.call, "data"),
            "/api/v1/calls/{call_id}/{part}": (load_api.show_part, "data"),
            "/api/v1/search": (load_api.show_search, "data"),
            "/api/v1/insights": (load_api.show_insight, "data"),
            "/api/v1/quota": (api.quota, "data"),
            "/api/v1/alerts": (api.alerts, "data"),
            "/api/v1/fleet": (api.fleet, "data"),
        }
        writing: dict[str, tuple[Handler, Access]] = {
            "/login": (self._log_in, "open"),
            "/api/v1/calls/{call_id}/{part}": (load_api.load_part, "data"),
            "/api/v1/search": (load_api.load_search, "data"),
            "/api/v1/insights": (load_api.load_insight, "data"),
        }
        return [
            *(web.get(path, self._guarded(*entry)) for path, entry in reading.items()),
            web.get("/api/v1/events", self._guarded(api.events, "data"), allow_head=False),
            *(web.post(path, self._guarded(*entry)) for path, entry in writing.items()),
        ]

    def _guarded(self, handler: Handler, access: Access) -> Handler:
        """Return a handler that checks access first, and answers errors as JSON."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await self._admit(request, access) or await handler(request)
            except RefusalError as error:
                return refused(error)
            except AgoraError as error:
                return failed(error)

        return handle

    async def _admit(self, request: web.Request, access: Access) -> web.StreamResponse | None:
        """Return None if the request may go on; raises `RefusalError`, or returns the form, if not."""
        if access != "probe" and not self._guard.knows_host(request):
            raise RefusalError(421, "host", "this server is not known under that Host: see the setting hosts")
        # A GET changes and costs nothing, and another site cannot read its answer.
        if request.method not in {"GET", "HEAD"} and not self._guard.is_same_origin(request):
            raise RefusalError(403, "origin", "this request comes from another site")
        if access in {"open", "probe"} or self._guard.is_authorised(request):
            return None
        if access == "page":
            return self._assets["login.html"].response(request, 401)
        raise RefusalError(401, "token", "this needs the token: send Authorization: Bearer …, or log in")

    async def _page(self, request: web.Request) -> web.Response:
        return self._assets["index.html"].response(request)

    async def _show_login(self, request: web.Request) -> web.Response:
        return self._assets["login.html"].response(request)

    async def _log_in(self, request: web.Request) -> web.Response:
        if not self._guard.is_token(_token_in(await bounded_body(request))):
            return self._assets["login.html"].response(request, 401)
        # Relative: the application may be mounted below any path.
        response = web.Response(status=303, headers={"Location": "./"})
        self._guard.log_in(request, response)
        return response

    async def _static(self, request: web.Request) -> web.Response:
        asset = self._assets.get(request.match_info["name"])
        # The page itself is behind the token; scripts and styles hold nothing, and the form of `/login` needs them.
        if asset is None or request.match_info["name"].endswith(".html"):
            raise RefusalError(404, "path", "there is no such file")
        return asset.response(request)


def _token_in(form: bytes) -> str:
    """Return the field `token` of a form; empty if there is none."""
    try:
        return parse_qs(form.decode("utf-8", "replace"), max_num_fields=10).get("token", [""])[0]
    except ValueError:  # too many fields
        return ""
