"""Answers that are careless all over: read together they are what they are one by one, and it stays bounded work."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics._core.decoding import chunks, codec
from agora_analytics.errors import DecodeError
from agora_analytics.models import MetricsAnswer, Session, SessionPage

sessions = codec.decoder(SessionPage)
metrics = codec.decoder(MetricsAnswer)
users = codec.points_decoder("userCount")
by_sdk = codec.points_decoder("userCount", "sdk")


def by_form(decode, **changes):
    """The same decoder without its fast road for small answers, its forms changed."""

    def changed(form):
        return attrs.evolve(form, parts={name: changed(part) for name, part in form.parts.items()}, **changes)

    return attrs.evolve(decode, form=lambda: changed(decode._form()), exact=None)


def one_by_one(decode):
    return by_form(decode, lax=None, lax_one=None, size=1)


def outcome(decode, body):
    try:
        answer = decode(body)
    except DecodeError as error:
        return error.path
    rows = answer.metrics if isinstance(answer, MetricsAnswer) else answer.items
    return rows, [type(row.uid) for row in rows if isinstance(row, Session)], answer.skipped


NUMBERS = [
    "7",
    "-7",
    "07",
    "1.0",
    "1e3",
    "2.5",
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    "null",
    "1",
    "1_0",
    "",
    "1.",
    "+1",
    " 1",
]
OTHERS = [
    "true",
    "True",
    "bob",
    "\ud83d",
    "a\x00",
    7,
    0,
    1,
    1.0,
    2.5,
    -1,
    True,
    None,
    [],
    {},
    2**63,
    str(2**63),
    10**20,
    str(10**20),
    "1e999",
    10**400,
    "9" * 30,
]
value = st.sampled_from(NUMBERS) | st.sampled_from(OTHERS)
fields = ["uid", "account", "speaker", "roles", "join_ts", "finished", "user_audio_freeze_rate"]
session = st.fixed_dictionaries({"sid": st.sampled_from(["a", "b", 7, None])}, optional=dict.fromkeys(fields, value))
sample = st.lists(value, min_size=2, max_size=2) | value
track = st.fixed_dictionaries({"mid": value, "kvs": st.lists(sample, max_size=4)}, optional={"peer_uid": value})
point = st.fixed_dictionaries({"ts": value, "userCount": value}, optional={"sdk": value})
spelling = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}])
size = st.integers(1, 400)


@given(st.lists(session, max_size=8), spelling, size)
def test_sessions_read_together_are_those_read_one_by_one(rows, how, size):
    body = json.dumps({"call_info": rows}, **how).encode()
    assert outcome(by_form(sessions, size=size), body) == outcome(one_by_one(sessions), body)


@given(st.lists(track, max_size=4), spelling, size)
def test_samples_read_together_are_those_read_one_by_one(tracks, how, size):
    body = json.dumps({"metrics": [{"sid": "a", "data": tracks}]}, **how).encode()
    assert outcome(by_form(metrics, size=size), body) == outcome(one_by_one(metrics), body)


@given(st.lists(point, max_size=8), spelling, size)
def test_points_read_together_are_those_read_one_by_one(rows, how, size):
    body = json.dumps({"data": rows}, **how).encode()
    for decode in (users, by_sdk):
        assert outcome(by_form(decode, size=size), body) == outcome(one_by_one(decode), body)


def listed(name, *rows):
    return b'{"%b":[%b]}' % (name.encode(), b",".join(rows))


OTHER_ORDER = [b'{"ts":1,"userCount":2}', b'{"zz":0,"ts":1,"userCount":2}', *[b'{"ts":1,"userCount":2}'] * 40_000]


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (sessions, listed("call_info", *[b'{"sid":"a","uid":"7","join_ts":"8","speaker":"true"}'] * 20_000)),
        (metrics, b'{"metrics":[{"sid":"a","data":[{"mid":1,"kvs":[%b]}]}]}' % b",".join([b'["1","2"]'] * 90_000)),
        (users, listed("data", *[b'{"ts":"1","userCount":"2"}'] * 40_000)),
        (users, listed("data", *[b'{"ts":"1","users":2.5}'] * 40_000)),
        (users, listed("data", *OTHER_ORDER)),
        (metrics, listed("metrics", *[b'{"sid":"a","data":[{"mid":1,"kvs":[]}]}'] * 20_000)),
    ],
    ids=["numbers as text", "samples as text", "points as text", "another name", "another order", "small items"],
)
def test_items_that_are_careless_alike_are_read_together(decode, body):
    assert decode(body).skipped == ()
    steps = sum(1 for _ in decode.steps(body))
    assert steps < len(body) / 500  # more bytes than any of the items has


def test_half_characters_are_told_as_long_as_anyone_reads_that():
    page = sessions(listed("call_info", *[rb'{"sid":"\ud83d"}'] * 5_000))
    assert [session.sid for session in page.items] == ["\ufffd"] * 5_000
    assert [spot.path for spot in page.skipped] == [f"$.call_info[{at}]" for at in range(1_000)]


ODD = b'{"mid":1,"peer_uid":"bob","kvs":[]}'


@pytest.mark.parametrize(
    ("decode", "body", "bound"),
    [
        (metrics, b"{%b}" % b",".join(b'"k%d":0' % at for at in range(10_000)), "4096 members"),
        (metrics, listed("metrics", b"{%b}" % (b'"sid":"a",' * 10_000 + b'"data":1')), "4096 members"),
        (metrics, listed("metrics", *[b'{"sid":"a","data":[%b]}' % ODD] * 5_000), "4096 members"),
        (metrics, listed("metrics", b'{"sid":"a","data":[%b]}' % b",".join([ODD] * 3_000)), "4096 members"),
        (sessions, listed("call_info", *[b'{"sid":"a","roles":"HOST"}'] * 3_000), "2048 items"),
    ],
    ids=["members", "members of an item", "odd items of items", "odd items", "odd items without lists"],
)
def test_what_has_to_be_looked_at_one_by_one_has_its_bounds(decode, body, bound, monkeypatch):
    monkeypatch.setattr(chunks, "_MAX_MEMBERS", 4_096)
    monkeypatch.setattr(chunks, "_MAX_LENIENT", 2_048)
    with pytest.raises(DecodeError, match=f"more than {bound}"):
        decode(body)


def test_the_tracks_of_peers_with_names_are_all_there():
    """As where an account's users have names for ids: 20 sessions, each of some peers, as many as a page may have."""
    tracks = b",".join([ODD] * 300)
    found = metrics(listed("metrics", *[b'{"sid":"a","data":[%b]}' % tracks] * 20))
    assert [len(session.data) for session in found.metrics] == [300] * 20
    assert found.skipped == ()
