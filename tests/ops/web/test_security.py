"""Who may use the server: token, cookie, `Host`, origin, and what no answer may contain."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle

import pytest
from helpers.echo_server import error_report, make_client
from helpers.streaming import USERS, simulated
from helpers.web_server import raw, site

from agora_analytics.ops import LiveState, routes
from agora_analytics.ops.web.guard import COOKIE, HEADERS, Guard

pytestmark = pytest.mark.real_time

TOKEN = "correct-horse-battery-staple"
DATA = ["status", "series", "calls", "calls/C1", "calls/C1/sessions", "search", "quota", "alerts", "events", "insights"]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def state():
    async with simulated("enterprise").client() as client:
        yield LiveState(client, USERS)


@pytest.mark.parametrize(
    "credentials",
    [{}, {"Authorization": "Bearer wrong-horse-battery-staple"}, {"Authorization": f"Basic {TOKEN}"},
     {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": "Bearer \udcff"},
     {"Cookie": f"{COOKIE}={TOKEN}"}, {"Cookie": f"{COOKIE}="}, {"Cookie": "x" * 4_000}],
    ids=lambda headers: next(iter(headers.values()), "none")[:20].encode("ascii", "replace").decode(),
)  # fmt: skip
async def test_without_the_token_there_is_no_data(state, credentials):
    head = "".join(f"{name}: {value}\n" for name, value in credentials.items()).replace("\udcff", "\xff")
    async with site(routes(state, token=TOKEN)) as here:
        for path in [*(f"/api/v1/{name}" for name in DATA), "/metrics", "/"]:
            answer = await raw(here.port, f"GET {path} HTTP/1.1\nHost: localhost\n{head}Connection: close")
            assert answer.startswith(b"HTTP/1.1 401"), path
            assert b"userCount" not in answer
        for path in ("/api/v1/calls/C1/freeze", "/api/v1/search", "/api/v1/insights"):
            assert await here.status(path, "POST", json={}, headers={}) == 401


async def test_the_token_opens_everything(state):
    async with site(routes(state, token=TOKEN)) as here:
        for path in ("/", "/api/v1/status", "/api/v1/series"):
            assert await here.status(path, headers={"Authorization": f"Bearer {TOKEN}"}) == 200
            assert await here.status(path, headers={"Authorization": f"bearer  {TOKEN}"}) == 200


async def test_a_browser_logs_in_and_gets_a_cookie_that_scripts_and_other_sites_cannot_use(state):
    async with site(routes(state, token=TOKEN)) as here:
        async with here.http.get("/") as response:
            assert response.status == 401
            assert 'action="login"' in await response.text()
        assert await here.status("/login", "POST", data={"token": "wrong"}) == 401
        assert await here.status("/login", "POST", data={}) == 401
        async with here.http.post("/login", data={"token": TOKEN}, allow_redirects=False) as response:
            assert response.status == 303
            assert response.headers["Location"] == "./"
            cookie = response.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        pair = cookie.partition(";")[0]
        value = pair.partition("=")[2]
        assert await here.status("/", headers={"Cookie": pair}) == 200
        assert await here.status("/api/v1/series", headers={"Cookie": pair}) == 200
        assert await here.status("/api/v1/series", headers={"Authorization": f"Bearer {value}"}) == 401


async def test_probes_need_no_token_and_then_tell_only_the_status(state):
    async with site(routes(state, token=TOKEN)) as here:
        for path in ("/healthz", "/readyz"):
            found = await (await here.http.get(path, headers={"Host": "10.0.0.1:80"})).json()
            assert found == {"status": "starting", "ready": False, "reasons": [], "notes": []}
        found = await (await here.http.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"})).json()
        assert found["reasons"]


@pytest.mark.parametrize("token", ["short", "x" * 15, "", " " + TOKEN, TOKEN + " ", "tökén" * 5, "x" * 20 + "\n", 5])
async def test_a_weak_token_is_refused_and_not_shown(state, token):
    with pytest.raises(ValueError, match="token") as caught:
        routes(state, token=token)
    assert len(str(token)) < 6 or str(token).strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1:8080", 200), ("[::1]:80", 200), ("192.168.1.7", 200),
     ("dash.example.com", 200), ("DASH.example.com:443", 200), ("evil.example", 421), ("localhost.evil.example", 421),
     ("127.0.0.1.nip.io", 421), ("", 421), ("[::1", 421), ("user@localhost", 421), ("localhost@evil.example", 421),
     ("evil.example:80@localhost", 421), ("2130706433", 421), ("0x7f.1", 421)],
)  # fmt: skip
async def test_only_known_hosts_and_addresses_are_answered(state, host, status):
    async with site(routes(state, hosts=["dash.example.com"])) as here:
        for path in ("/", "/api/v1/series", "/login", "/static/app.js"):
            answer = await raw(here.port, f"GET {path} HTTP/1.1\nHost: {host}\nConnection: close")
            assert answer.startswith((f"HTTP/1.1 {status}".encode(), b"HTTP/1.1 400" if status == 421 else b"-"))


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost:1"},
     {"Origin": "http://[::1"}, {"Origin": "http://127.0.0.1.evil.example"},
     {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}],
    ids=str,
)  # fmt: skip
async def test_a_post_from_another_site_is_refused(state, headers):
    async with site(routes(state)) as here:
        for path in ("/api/v1/calls/C1/freeze", "/login", "/api/v1/search", "/api/v1/insights"):
            assert await here.status(path, "POST", data=b"{}", headers={**JSON, **headers}) == 403, path


async def test_a_post_from_the_page_or_from_a_program_is_heard(state):
    async with site(routes(state)) as here:
        own = {"Origin": f"http://127.0.0.1:{here.port}", "Sec-Fetch-Site": "same-origin"}
        for headers in (own, {}, {"Origin": own["Origin"]}):
            assert await here.status("/api/v1/calls/C1/freeze", "POST", data=b"{}", headers={**JSON, **headers}) == 404


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [(b"{}", "text/plain", 415), (b"{}", "application/x-www-form-urlencoded", 415), (b"", "application/json", 400),
     (b"[]", "application/json", 400), (b"{", "application/json", 400), (b"[" * 15_000, "application/json", 400),
     (b"1" * 15_000, "application/json", 400), (b"\xff", "application/json", 400),
     (b" " * 16_385, "application/json", 413)],
)  # fmt: skip
async def test_a_body_that_is_no_small_json_object_is_refused(state, body, kind, status):
    async with site(routes(state)) as here:
        assert await here.status("/api/v1/insights", "POST", data=body, headers={"Content-Type": kind}) == status


async def test_every_answer_has_the_security_headers(state):
    async with site(routes(state, token=TOKEN)) as here:
        for path in (
            "/",
            "/login",
            "/static/app.js",
            "/static/none",
            "/healthz",
            "/api/v1/series",
            "/none",
            "/metrics",
        ):
            async with here.http.get(path) as response:
                assert {name: response.headers.get(name) for name in HEADERS} == HEADERS, path
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path", ["/api/v1/calls/x%0d%0aSet-Cookie:%20a=b", "/static/%0d%0aX-Evil:1", "/api/v1/events?after=%0d%0aX-Evil:1",
             "/api/v1/calls?order=%0d%0aX-Evil:1", "/login?%0d%0aX-Evil:1"],
)  # fmt: skip
async def test_no_header_can_be_injected(state, path):
    async with site(routes(state)) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert b"\r\nX-Evil" not in head
        assert b"\r\nSet-Cookie" not in head


async def test_a_huge_path_or_header_does_no_harm(state):
    async with site(routes(state)) as here:
        for head in (f"GET /{'x' * 100_000} HTTP/1.1\nHost: localhost", f"GET / HTTP/1.1\nHost: {'x' * 100_000}"):
            assert (await raw(here.port, head)).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
        assert await here.status("/api/v1/calls/" + "x" * 5_000) == 404
        assert await here.status("/healthz") == 200


async def test_neither_token_nor_credentials_are_logged_or_answered(state, caplog):
    caplog.set_level(logging.DEBUG)
    async with site(routes(state, token=TOKEN)) as here:
        texts = []
        for path in ("/", "/api/v1/status", "/none"):
            async with here.http.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) as response:
                texts.append(await response.text() + str(response.headers))
        await here.http.post("/login", data={"token": TOKEN})
    assert TOKEN not in "".join(texts) + caplog.text + repr(state)


@pytest.mark.parametrize(
    "wrong",
    [{"token": TOKEN[:15]}, {"token": f" {TOKEN}"}, {"token": TOKEN.encode()}, {"hosts": ["a b"]}, {"source": None}],
    ids=str,
)
def test_a_wrong_setting_is_refused_and_no_frame_shows_the_token(wrong):
    settings = {"source": make_client("http://127.0.0.1:9"), "token": TOKEN} | wrong
    with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
        routes(**settings)
    assert TOKEN[:15] not in error_report(caught.value)


@pytest.mark.parametrize("copy_of", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_holds_the_token_is_not_pickled_or_copied(copy_of):
    guard = Guard(TOKEN, ())
    assert TOKEN not in repr(guard)
    with pytest.raises(TypeError, match="not pickled or copied"):
        copy_of(guard)
