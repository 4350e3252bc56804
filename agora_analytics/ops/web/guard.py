"""Who may use the server: the token, the `Host` and the origin of a request, and the headers of every answer.

A page on the internet can make a browser send requests to this server, but not with a `Host` that is an address (DNS
rebinding needs a name), not with our cookie (`SameSite=Strict`), and not as JSON from another origin.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, NoReturn
from urllib.parse import urlsplit

from aiohttp import web

from agora_analytics._core import validation

COOKIE: Final = "agora_analytics"

MIN_TOKEN: Final = 16
"""Characters of the shortest token: guesses are not counted, so it must be too long to guess."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # under `no-referrer` a browser sends `Origin: null` with the form of `/login`
    "Server": "agora-analytics",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer."""

_NAME: Final = "[A-Za-z0-9._-]+"
_HOST: Final = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|{_NAME})(?::[0-9]{{1,5}})?")
_LOOPBACK: Final = "localhost"


class Guard:
    """Checks requests; without a token everyone who reaches the server may use it."""

    def __init__(self, token: str | None, hosts: Iterable[str]) -> None:
        self._token: bytes | None = None
        self._cookie = self._cookie_name = ""
        try:
            error = None if token is None else _token_error(token)
            if token is not None and error is None:
                self._token = token.encode()
        finally:
            del token  # reporters show the arguments of every frame of a traceback
        if error is not None:
            raise error
        self._hosts = {_LOOPBACK, *map(_check_name, validation.non_empty_strs("hosts", hosts))}
        if self._token is not None:
            # The cookie is not the token, so a stolen one does not work as `Authorization`, and restarts keep it valid.
            self._cookie = hmac.new(self._token, b"agora_analytics cookie", hashlib.sha256).hexdigest()
            # A browser shares cookies between all ports of a host: another server there needs another name.
            name = hmac.new(self._token, b"agora_analytics cookie name", hashlib.sha256)
            self._cookie_name = f"{COOKIE}-{name.hexdigest()[:8]}"

    @property
    def has_token(self) -> bool:
        """Whether viewers need a token."""
        return self._token is not None

    def knows_host(self, request: web.Request) -> bool:
        """Whether the `Host` of a request is an address, `localhost` or one of the configured names."""
        found = _HOST.fullmatch(request.host)
        name = found[1].strip("[]").lower() if found else ""
        return name in self._hosts or _is_address(name)

    def is_same_origin(self, request: web.Request) -> bool:
        """Whether a request comes from our own page, or from no page at all."""
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        # Programs such as curl send neither header, and no other site can make them send a request.
        if site is not None and site != "same-origin":
            return False
        try:
            return origin is None or urlsplit(origin).netloc.lower() == request.host.lower()
        except ValueError:
            return False

    def is_authorised(self, request: web.Request) -> bool:
        """Whether a request has the token, or the cookie that `/login` sets for it."""
        if not self.has_token:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        bearer = given.strip() if scheme.lower() == "bearer" else ""
        cookie = request.cookies.get(self._cookie_name, "")
        return self.is_token(bearer) or _equal(cookie, self._cookie.encode())

    def trusts(self, request: web.Request) -> bool:
        """Whether a request may see details: a probe is answered under any `Host`, and without the token."""
        return self.knows_host(request) and self.is_authorised(request)

    def is_token(self, given: str) -> bool:
        """Whether a text is the token."""
        return self._token is not None and _equal(given, self._token)

    def log_in(self, request: web.Request, response: web.Response) -> None:
        """Set the cookie of a browser that has given the token."""
        # Below this application only: another one of the same host does not get the cookie.
        path = request.path.removesuffix("login")
        # A proxy with TLS passes on plain HTTP, but the browser's own `Origin` has the scheme that it sees.
        secure = request.scheme == "https" or request.headers.get("Origin", "").startswith("https:")
        response.set_cookie(self._cookie_name, self._cookie, path=path, httponly=True, samesite="Strict", secure=secure)

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would hold the token."""
        raise TypeError("a guard is not pickled or copied, as it holds the token")


def _check_name(host: str) -> str:
    """Return a name of the server in lower case; raises `ValueError` for one that matches no request."""
    if not re.fullmatch(_NAME, host) and not _is_address(host):
        raise ValueError(f"hosts: {host!r}: allowed are names without scheme, port and wildcard")
    return host.lower()


def _token_error(token: object) -> ValueError | None:
    """Return what is wrong with a token, None if nothing is: raised from here, the error's frames would show it."""
    if not isinstance(token, str) or len(token) < MIN_TOKEN or not (token.isascii() and token.isprintable()):
        return ValueError(f"token: allowed are {MIN_TOKEN} or more printable ASCII characters (value not shown)")
    if token != token.strip():
        return ValueError("token: begins or ends with a space (value not shown)")
    return None


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers of every answer."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def _equal(given: str, expected: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
