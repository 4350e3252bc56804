"""URLs of stores: what of one may be shown, and what is secret in it and in the options that go with it.

A password may hold what ends a host's name by the book (`/`, `?`, `#`), so all up to the last `@` is taken for secret
wherever a password may have begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

_SHORT: Final = 4
"""Characters below which a secret is blanked out as a whole word only: within others it may be anything."""

_NUMBER: Final = 1_000
"""Numbers in the options that may be a secret; smaller ones are seconds and sizes."""

_LINKS: Final = re.compile(r"::(?=[a-z][\w+.-]*(?:://|::|$))", re.IGNORECASE)
"""What is between the links of a chain; `::` may be in a password too."""

_SCHEME: Final = re.compile(r"[a-z][\w+.-]*(?=::|://)", re.IGNORECASE)
_HOST: Final = re.compile(r"[^:]*:\d*|.*@.*")
"""What can be a host with its port, or a user with a host, and so need not be the beginning of a password."""


def scheme(url: str) -> str:
    """Return the protocol of a URL, in a chain that of the first link."""
    found = _SCHEME.match(url)
    return found[0].lower() if found else ""


def shown(url: str) -> str:
    """Return a URL, each link of a chain, without a user, a password and options."""
    return "::".join(map(_shown_link, _LINKS.split(url)))


def _shown_link(link: str) -> str:
    protocol, found, rest = link.partition("://")
    return f"{protocol}://{_place(rest)}" if found else link


def _place(rest: str) -> str:
    """Return what follows `://` without what may be secret."""
    authority, before = _authority(rest), rest.rpartition("@")[0]
    if "@" not in rest or not {":", "@"} & {*authority}:
        return _without_query(rest)
    is_query = re.search(r"[?#]", before) is not None and len(before) > len(authority)
    if is_query and _HOST.fullmatch(authority):
        return "***"  # a password with an @ and a ? in it, or an @ in the query: what is shown of one is of the other
    return _without_query(rest.rpartition("@")[2])


def _authority(rest: str) -> str:
    return re.split(r"[/?#]", rest, maxsplit=1)[0]


def _without_query(rest: str) -> str:
    return re.split(r"[?#]", rest, maxsplit=1)[0]


def identity(url: str, options: Mapping[str, Any]) -> str:
    """Return what tells a place from all others: who, where, without the password. It may hold secrets all the same."""
    places = "::".join(_without_password(link) for link in url.split("::"))
    return f"{places} {_text_of(options, 'endpoint_url')} {_text_of(options, 'username')}"


def _without_password(link: str) -> str:
    if "://" not in link:
        return link
    try:
        parts = urlsplit(link)
    except ValueError:  # no URL by the book; its store may know it
        return link
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", fragment=""))


def _text_of(options: Mapping[str, Any], name: str) -> str:
    """Return an option, at the top or one step below."""
    inner = (more.get(name) for more in options.values() if isinstance(more, Mapping))
    return str(options.get(name) or next(filter(None, inner), ""))


def secrets(url: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every text that may not be shown: users and passwords of the URL, and the values of the options."""
    texts = {*_texts(options)}
    for link in _LINKS.split(url):
        texts.update(_secrets_of_link(link))
    spelled = {form for text in texts for form in (text, unquote(text), quote(text, safe=""), repr(text)[1:-1])}
    return tuple(sorted(filter(None, spelled), key=len, reverse=True))


def _secrets_of_link(link: str) -> Iterator[str]:
    """Yield what is secret of a link, by the book and as it may be meant."""
    _, found, rest = link.partition("://")
    if not found:
        return
    authority, before = _authority(rest), rest.rpartition("@")[0]
    if before and {":", "@"} & {*authority}:
        yield from (before, *_passwords(before))
    yield from _passwords(authority.rpartition("@")[0])
    yield authority.rpartition("@")[0]
    query = re.split(r"[?#]", rest, maxsplit=1)[1:]
    for part in query:
        yield from (part, *(value for _, value in parse_qsl(part)), *(one.partition("=")[2] for one in part.split("&")))


def _passwords(user: str) -> Iterator[str]:
    """Yield a password, and the pieces that a library may take it for."""
    password = user.partition(":")[2]
    yield from (password, *re.split(r"[/?#@]", password))


def _texts(options: object) -> Iterator[str]:
    """Yield every value in the options as text, however deep."""
    if isinstance(options, str):
        yield options
    elif isinstance(options, bytes | bytearray):
        yield options.decode(errors="backslashreplace")
    elif isinstance(options, int) and abs(options) >= _NUMBER:
        yield str(options)
    elif isinstance(options, Mapping):
        for value in options.values():
            yield from _texts(value)
    elif isinstance(options, list | tuple | set | frozenset):
        for value in options:
            yield from _texts(value)


def scrubbed(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text without the secrets, which are given the longest first."""
    for secret in secrets:
        if len(secret) >= _SHORT:
            text = text.replace(secret, "***")
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text
