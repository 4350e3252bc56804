"""What is blanked out of texts that others wrote: secrets in every spelling, and nothing else."""

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
def test_a_secret_is_blanked_out_in_every_spelling(echo):
    assert Scrubber(SECRET).scrub(f"<{echo}> <{echo}>".encode()) == b"<***> <***>"


def test_base64_is_found_in_its_other_alphabet_and_without_its_padding():
    other = TOKEN.replace("+", "-").replace("/", "_").rstrip("=")
    assert other != TOKEN
    assert Scrubber(TOKEN).scrub(f"Basic {other};".encode()) == b"Basic ***;"


def test_the_better_part_of_a_long_secret_is_a_secret_too():
    assert Scrubber(LONG).scrub(f"{LONG[:20]}...".encode()) == b"***..."
    assert Scrubber("simulated-secret").scrub(b"simulated fault") == b"simulated fault"


def test_a_secret_within_another_leaves_nothing_of_the_other():
    assert Scrubber(f"left-{LONG}-right", LONG).scrub(f"<left-{LONG}-right>".encode()) == b"<***>"


def test_what_is_too_short_to_tell_apart_is_left():
    assert Scrubber("abc").scrub(b"abc abcd") == b"abc abcd"


@given(
    st.text(st.characters(exclude_characters="*", codec="utf-8"), min_size=4, max_size=40),
    st.binary(max_size=60),
    st.binary(max_size=60),
)
def test_no_secret_is_left_and_nothing_else_is_lost(secret, before, after):
    scrubber = Scrubber(secret)
    assert secret.encode("utf-8", "surrogatepass") not in scrubber.scrub(
        before + secret.encode("utf-8", "surrogatepass") + after
    )
    untouched = bytes(byte for byte in before if byte < 32)
    assert Scrubber("never in there").scrub(untouched) == untouched


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("/beta?appid=APP&x=1", "/beta?appid=***&x=1"),
        ("/beta%3Fappid%3DAPP%26x", "/beta%3Fappid%3D***"),
        ('{"appid": "APP"}', '{"appid": "***"}'),
        ("APP is an app", "APP is an app"),
        ("a demo of appid=demo", "a demo of appid=***"),
        (f"no project {LONG}", "no project ***"),
    ],
)
def test_an_app_id_is_blanked_out_where_it_is_named_or_long(said, left):
    app_id = LONG if LONG in said else "demo" if "demo" in said else "APP"
    assert without_app(said.encode(), app_id) == left.encode()


def test_nothing_shows_what_is_hidden():
    assert LONG not in repr(Scrubber(LONG))


@pytest.mark.parametrize("escaped", ["&<>", "&<>='/+", string.printable])
def test_what_json_escapes_without_need_is_looked_at_as_it_is_meant(escaped):
    said = json.dumps({"message": SECRET}).encode()
    echo = b"".join(
        b"\\u%04x" % byte if chr(byte) in escaped and byte not in b'{": }\\' else b"%c" % byte for byte in said
    )
    assert without_escapes(echo) == said
    assert json.loads(without_escapes(echo)) == json.loads(echo)


@given(st.text())
def test_json_means_the_same_without_escapes(text):
    for said in (json.dumps(text), json.dumps(text).replace("/", "\\/"), json.dumps(json.dumps(text))):
        assert json.loads(without_escapes(said.encode())) == json.loads(said)


@pytest.mark.parametrize("between", ["", " ", ", ", "x" * 1_001, "x" * 40_000])
def test_a_large_body_is_scrubbed_in_steps_as_it_is_in_one_go(between):
    scrubber = Scrubber(TOKEN, SECRET)
    body = between.join([TOKEN, SECRET, "{}"] * (1 + 120_000 // (len(between) + 30))).encode()
    steps = in_steps(body, scrubber.scrub)
    assert len(list(steps)) > 3
    assert finish(in_steps(body, scrubber.scrub)) == scrubber.scrub(body)
    assert finish(in_steps(b"x" * 100_000, scrubber.scrub)) == b"x" * 100_000
