"""URLs of stores: what of a URL may be shown, and which secrets are in it and in the options.

A password may contain characters that end a host by the RFC (`/`, `?`, `#`). So everything up to the last `@` counts as
secret wherever a password may have begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

_SHORT: Final = 4
"""Secrets shorter than this are replaced as whole words only: within a word, they would match anything."""

_NUMBER: Final = 1_000
"""Numbers in the options from here on may be secrets; smaller ones are durations and sizes."""

_LINKS: Final = re.compile(r"::(?=[a-z][\w+.-]*(?:://|::|$))", re.IGNORECASE)
"""Separator of chained URLs; a password may contain `::`, too."""

_SCHEME: Final = re.compile(r"[a-z][\w+.-]*(?=::|://)", re.IGNORECASE)
_HOST: Final = re.compile(r"[^:]*:\d*|.*@.*")
"""A host with a port, or a user with a host: not the beginning of a password."""


def scheme(url: str) -> str:
    """Return the scheme of a URL, or of the first one in a chain."""
    found = _SCHEME.match(url)
    return found[0].lower() if found else ""


def shown(url: str) -> str:
    """Return a URL, or each one of a chain, without user, password and query."""
    return "::".join(map(_shown_link, _LINKS.split(url)))


def _shown_link(link: str) -> str:
    protocol, found, rest = link.partition("://")
    return f"{protocol}://{_place(rest)}" if found else link


def _place(rest: str) -> str:
    """Return what follows `://`, without what may be secret."""
    authority, before = _authority(rest), rest.rpartition("@")[0]
    if "@" not in rest or not {":", "@"} & {*authority}:
        return _without_query(rest)
    is_query = re.search(r"[?#]", before) is not None and len(before) > len(authority)
    if is_query and _HOST.fullmatch(authority):
        return "***"  # ambiguous: a password with @ and ?, or a query with @
    return _without_query(rest.rpartition("@")[2])


def _authority(rest: str) -> str:
    return re.split(r"[/?#]", rest, maxsplit=1)[0]


def _without_query(rest: str) -> str:
    return re.split(r"[?#]", rest, maxsplit=1)[0]


def identity(url: str, options: Mapping[str, Any]) -> str:
    """Return what identifies a place: URL, endpoint and user, without the password. It may still hold secrets."""
    places = "::".join(_without_password(link) for link in url.split("::"))
    return f"{places} {_text_of(options, 'endpoint_url')} {_text_of(options, 'username')}"


def _without_password(link: str) -> str:
    if "://" not in link:
        return link
    try:
        parts = urlsplit(link)
    except ValueError:  # no valid URL; its store may know it
        return link
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", fragment=""))


def _text_of(options: Mapping[str, Any], name: str) -> str:
    """Return an option from the top level, or one below."""
    inner = (more.get(name) for more in options.values() if isinstance(more, Mapping))
    return str(options.get(name) or next(filter(None, inner), ""))


def secrets(url: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all secrets: users, passwords and query values of the URL, and values of the options."""
    texts = {*_texts(options)}
    for link in _LINKS.split(url):
        texts.update(_secrets_of_link(link))
    # As it is spelled in a URL, in a request, and in the repr of an exception.
    spelled = {form for text in texts for form in (text, unquote(text), quote(text, safe=""), repr(text)[1:-1])}
    return tuple(filter(None, spelled))


def _secrets_of_link(link: str) -> Iterator[str]:
    """Yield the secrets of one URL of a chain, by the RFC and by what it may mean."""
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
    """Yield a password, and the pieces that a library may cut it into."""
    password = user.partition(":")[2]
    yield from (password, *re.split(r"[/?#@]", password))


def _texts(options: object) -> Iterator[str]:
    """Yield every value in nested options, as text."""
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
    """Replace secrets in a text by `***`; where they overlap, all that they cover."""
    kept: list[str] = []
    at = 0
    for start, end in sorted(place for secret in secrets for place in _places(text, secret)):
        if start >= at:
            kept += text[at:start], "***"
        at = max(at, end)
    return "".join([*kept, text[at:]])


def _places(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Yield where a secret is; a short one only as a word of its own."""
    escaped = re.escape(secret)
    pattern = escaped if len(secret) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"
    for found in re.finditer(f"(?={pattern})", text):  # a lookahead, because a secret may overlap itself
        yield found.start(), found.start() + len(secret)
