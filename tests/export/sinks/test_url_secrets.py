"""Secrets in a URL or in sink options are never shown, however they are encoded."""

from __future__ import annotations

import pytest

from agora_analytics.export.sinks import check_place, open_sink

SHOWN_URLS = {
    "memory://user:pa/ss123@host.invalid/dir": "memory://host.invalid/dir",
    "memory://user:pass#word1@host.invalid/dir": "memory://host.invalid/dir",
    "memory://user:pass?word1@host.invalid/dir": "memory://host.invalid/dir",
    "memory://user:12?34@host.invalid/dir": "memory://***",
    "memory://user:p@ss/w0rd@host.invalid/dir": "memory://host.invalid/dir",
    "memory://user:p@ss?w0rd@host.invalid/dir": "memory://***",
    "memory://user:secretpw@host.invalid/dir?token=to@ken": "memory://***",
    "memory://host.invalid:80/dir?token=to@ken": "memory://***",
    "memory://bucket/dir?token=to@ken": "memory://bucket/dir",
    "memory://bucket/team@example.com/dir": "memory://bucket/team@example.com/dir",
    "memory://user:abc@host.invalid:22/dir": "memory://host.invalid:22/dir",
    "memory://user:pa::ss@host.invalid/dir": "memory://host.invalid/dir",
    "simplecache::memory://user:pa/ss@host.invalid/dir": "simplecache::memory://host.invalid/dir",
}


@pytest.mark.parametrize(("url", "shown"), SHOWN_URLS.items())
def test_a_url_is_shown_without_anything_that_may_be_a_password(url, shown):
    assert str(open_sink(url, {})) == shown


@pytest.mark.parametrize(
    "url",
    [
        "sftp://user:pa/ss123@host.invalid/dir",
        "sftp://user:pa[ss123@host.invalid/dir",
        "pigeon://user:pa#ss123@host.invalid/dir",
        "memory://user:pa\0ss123@host.invalid/dir",
        "memory://user:pa/ss123\0@host.invalid/dir",
    ],
)
def test_a_url_that_cannot_be_opened_is_refused_without_its_password(url):
    with pytest.raises(ValueError, match="to=") as error:
        open_sink(url, {})
    assert "ss123" not in f"{error.value!r} {error.value.__context__!r}"
    assert "'pa'" not in str(error.value)  # a URL parser may report a part of the password as a bad port


def test_an_unknown_scheme_is_refused_without_the_password():
    with pytest.raises(ValueError, match="to='pigeon://host'") as error:
        check_place("pigeon://user:pa/ss123@host")
    assert "ss123" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "options", "secret"),
    [
        ("memory://user:abc@host.invalid/dir", {}, "abc"),
        ("memory://user:p%40ssw0rd@host.invalid/dir", {}, "p@ssw0rd"),
        ("memory://user:pa/ss123@host.invalid/dir", {}, "pa"),
        ("memory://host.invalid/dir?sig=tick&more=sense", {}, "tick"),
        ("memory://host.invalid/dir?sig=ti%20ck", {}, "ti ck"),
        ("memory://host.invalid/dir#fragment", {}, "fragment"),
        ("memory://host.invalid/dir", {"key": b"bytes-secret"}, "bytes-secret"),
        ("memory://host.invalid/dir", {"inner": {"keys": ("xy", {"abcdef"})}}, "abcdef"),
        ("memory://host.invalid/dir", {"inner": {"keys": ("xy", {"abcdef"})}}, "xy"),
        ("memory://host.invalid/dir", {"password": 12345}, "12345"),
    ],
)
def test_secrets_are_redacted_from_messages_of_a_store(url, options, secret):
    sink = open_sink(url, options)
    assert secret not in sink.scrub(f"login as user with {secret} failed: '{secret}'")


def test_a_short_secret_is_redacted_only_as_a_whole_word():
    sink = open_sink("memory://user:in@host.invalid/dir", {})
    assert sink.scrub("'in' is invalid inside") == "'***' is invalid inside"


@pytest.mark.parametrize("options", [{"a": "abcdefgh", "b": "efghijkl"}, {"b": "efghijkl", "a": "abcdefgh"}])
def test_secrets_that_overlap_are_redacted_as_one(options):
    sink = open_sink("memory://bucket/folder", options)
    assert sink.scrub("before abcdefghijkl after abcdefghefghijkl") == "before *** after ******"
    assert open_sink("memory://bucket/folder", {"a": "abababab"}).scrub("xababababab!") == "x***!"
