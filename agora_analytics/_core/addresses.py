"""Where requests go: base URLs that may carry the credentials, and the proxies that the environment names.

What is refused here is never quoted whole, since people put passwords into both.
"""

from __future__ import annotations

import base64
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import attrs
from yarl import URL

_SCHEMES = frozenset({"http", "https"})


@attrs.frozen
class Proxy:
    """A proxy, and the value of `Proxy-Authorization` if it has credentials."""

    url: URL = attrs.field(repr=False)
    authorization: str | None = attrs.field(default=None, repr=False)


def checked(url: str) -> str:
    """Return a base URL without its trailing slash; raises `ValueError` unless it is https, or loopback."""
    parsed = _parsed(url)
    if parsed is None:
        raise ValueError("base_url (value not shown) is not like 'https://api.agora.io'")
    shown = str(parsed.origin())
    if parsed.user or parsed.password:
        raise ValueError(f"base_url={shown!r} carries credentials: give them as arguments")
    if parsed.query_string or parsed.fragment:
        raise ValueError(
            f"base_url={shown!r} has a query or a fragment (not shown): it is not like 'https://api.agora.io'"
        )
    if parsed.scheme == "http" and not loopback(url):
        raise ValueError(f"base_url={shown!r} would send the secret in the clear: https is needed except on loopback")
    return str(parsed).rstrip("/")


def loopback(url: str) -> bool:
    """Whether a URL's host is this machine."""
    host = URL(url).host
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def proxy(base: str) -> Proxy | None:
    """Return the proxy that the environment names for a base URL, None for a direct connection.

    A loopback address is always reached directly. Raises `ValueError` for a proxy that cannot be used, naming the
    variable and not its value.
    """
    url = URL(base)
    if loopback(base) or proxy_bypass(url.host or "") or not getproxies().get(url.scheme):
        return None
    found = _proxy(getproxies()[url.scheme])
    if found is None:
        raise ValueError(
            f"{url.scheme.upper()}_PROXY names no proxy that can be used (value not shown): it is like"
            " http://user:password@host:port, with special characters of the password percent-encoded; socks is not"
            " supported"
        )
    return found


def _parsed(url: str) -> URL | None:
    """Parse a base URL; None if it is invalid: an error that says why might quote a password."""
    try:
        parsed = URL(url)
        whole = parsed.scheme in _SCHEMES and parsed.host and parsed.port
    except ValueError:
        return None
    # yarl accepts a space in a host, as it comes from settings with a comment behind the value.
    return parsed if whole and not any(map(str.isspace, parsed.host or "")) else None


def _proxy(text: str) -> Proxy | None:
    """Parse a proxy as the environment spells it, with or without a scheme; None if it cannot be used."""
    try:
        url = URL(text if "://" in text else f"http://{text}")
        # A proxy has no path: one with a path is most likely the URL of something else.
        usable = url.scheme in _SCHEMES and url.host and url.port and url.raw_path in {"", "/"}
    except ValueError:
        return None
    if not usable or url.query_string or url.fragment or any(map(str.isspace, text)):
        return None
    if url.user is None and url.password is None:
        return Proxy(url)
    # In a header, since whatever shows the URL must not show the password.
    pair = f"{url.user or ''}:{url.password or ''}".encode()
    return Proxy(url.with_user(None), f"Basic {base64.b64encode(pair).decode()}")
