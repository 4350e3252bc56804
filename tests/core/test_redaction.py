"""Redaction of text from other sources: secrets in every encoding, and nothing else."""

from __future__ import annotations

import base64
import html
import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics._core.decoding.scanner import finish
from agora_analytics._core.redaction import Scrubber, in_steps, without_app, without_escapes

SECRET = 'f00d/Ba"r+&5e2c<9a41b7'
LONG = "0123456789abcdef0123456789ABCDEF"
TOKEN = base64.b64encode(b"id:\xff\xfe\xfb\xef" * 5).decode()


@pytest.mark.parametrize(
    "echo",
    [
        SECRET,
        SECRET.upper(),
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        html.escape(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
    ],
)
def test_a_secret_is_redacted_in_every_encoding(echo):
    assert Scrubber(SECRET).scrub(f"<{echo}> <{echo}>".encode()) == b"<***> <***>"


def test_a_token_is_redacted_in_url_safe_base64_and_without_padding():
    other = TOKEN.replace("+", "-").replace("/", "_").rstrip("=")
    assert other != TOKEN
    assert Scrubber(TOKEN).scrub(f"Basic {other};".encode()) == b"Basic ***;"


def test_the_first_part_of_a_long_secret_is_redacted_too():
    assert Scrubber(LONG).scrub(f"{LONG[:20]}...".encode()) == b"***..."
    assert Scrubber("simulated-secret").scrub(b"simulated fault") == b"simulated fault"


def test_a_secret_that_contains_another_is_redacted_as_a_whole():
    assert Scrubber(f"left-{LONG}-right", LONG).scrub(f"<left-{LONG}-right>".encode()) == b"<***>"


def test_a_very_short_secret_is_not_redacted():
    assert Scrubber("abc").scrub(b"abc abcd") == b"abc abcd"


@given(
    st.text(st.characters(exclude_characters="*", codec="utf-8"), min_size=4, max_size=40),
    st.binary(max_size=60),
    st.binary(max_size=60),
)
def test_redaction_removes_the_secret_and_nothing_else(secret, before, after):
    scrubber = Scrubber(secret)
    assert secret.encode("utf-8", "surrogatepass") not in scrubber.scrub(
        before + secret.encode("utf-8", "surrogatepass") + after
    )
    untouched = bytes(byte for byte in before if byte < 32)
    assert Scrubber("never in there").scrub(untouched) == untouched


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("/beta?appid=APP&x=1", "/beta?appid=***&x=1"),
        ("/beta%3Fappid%3DAPP%26x", "/beta%3Fappid%3D***"),
        ('{"appid": "APP"}', '{"appid": "***"}'),
        ("APP is an app", "APP is an app"),
        ("a demo of appid=demo", "a demo of appid=***"),
        (f"no project {LONG}", "no project ***"),
    ],
)
def test_an_app_id_is_redacted_where_it_is_named_or_long(body, expected):
    app_id = LONG if LONG in body else "demo" if "demo" in body else "APP"
    assert without_app(body.encode(), app_id) == expected.encode()


def test_the_repr_of_a_scrubber_does_not_show_its_secrets():
    assert LONG not in repr(Scrubber(LONG))


@pytest.mark.parametrize("escaped", ["&<>", "&<>='/+", string.printable])
def test_needless_json_escapes_are_decoded(escaped):
    body = json.dumps({"message": SECRET}).encode()
    echo = b"".join(
        b"\\u%04x" % byte if chr(byte) in escaped and byte not in b'{": }\\' else b"%c" % byte for byte in body
    )
    assert without_escapes(echo) == body
    assert json.loads(without_escapes(echo)) == json.loads(echo)


@given(st.text())
def test_decoding_needless_escapes_keeps_the_meaning_of_json(text):
    for body in (json.dumps(text), json.dumps(text).replace("/", "\\/"), json.dumps(json.dumps(text))):
        assert json.loads(without_escapes(body.encode())) == json.loads(body)


@pytest.mark.slow_except(", ", "between3", "between4")
@pytest.mark.parametrize("between", ["", " ", ", ", "x" * 1_001, "x" * 40_000])
def test_a_large_body_redacted_in_steps_equals_one_redacted_at_once(between):
    scrubber = Scrubber(TOKEN, SECRET)
    body = between.join([TOKEN, SECRET, "{}"] * (1 + 120_000 // (len(between) + 30))).encode()
    steps = in_steps(body, scrubber.scrub)
    assert len(list(steps)) > 3
    assert finish(in_steps(body, scrubber.scrub)) == scrubber.scrub(body)
    assert finish(in_steps(b"x" * 100_000, scrubber.scrub)) == b"x" * 100_000
