"""Responses full of wrong types: items decoded together equal items decoded one by one, and the work is limited."""

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


def with_format(decode, **changes):
    """The same decoder without its fast path for small responses, and with changed formats."""

    def changed(form):
        return attrs.evolve(form, parts={name: changed(part) for name, part in form.parts.items()}, **changes)

    return attrs.evolve(decode, form=lambda: changed(decode._form()), exact=None)


def one_by_one(decode):
    return with_format(decode, lax=None, lax_one=None, size=1)


def outcome(decode, body):
    try:
        response = decode(body)
    except DecodeError as error:
        return error.path
    rows = response.metrics if isinstance(response, MetricsAnswer) else response.items
    return rows, [type(row.uid) for row in rows if isinstance(row, Session)], response.skipped


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
values = st.sampled_from(NUMBERS) | st.sampled_from(OTHERS)
fields = ["uid", "account", "speaker", "roles", "join_ts", "finished", "user_audio_freeze_rate"]
session = st.fixed_dictionaries({"sid": st.sampled_from(["a", "b", 7, None])}, optional=dict.fromkeys(fields, values))
sample = st.lists(values, min_size=2, max_size=2) | values
track = st.fixed_dictionaries({"mid": values, "kvs": st.lists(sample, max_size=4)}, optional={"peer_uid": values})
point = st.fixed_dictionaries({"ts": values, "userCount": values}, optional={"sdk": values})
json_styles = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}])
size = st.integers(1, 400)


@given(st.lists(session, max_size=8), json_styles, size)
def test_sessions_decoded_together_equal_sessions_decoded_one_by_one(rows, style, size):
    body = json.dumps({"call_info": rows}, **style).encode()
    assert outcome(with_format(sessions, size=size), body) == outcome(one_by_one(sessions), body)


@given(st.lists(track, max_size=4), json_styles, size)
def test_samples_decoded_together_equal_samples_decoded_one_by_one(tracks, style, size):
    body = json.dumps({"metrics": [{"sid": "a", "data": tracks}]}, **style).encode()
    assert outcome(with_format(metrics, size=size), body) == outcome(one_by_one(metrics), body)


@given(st.lists(point, max_size=8), json_styles, size)
def test_points_decoded_together_equal_points_decoded_one_by_one(rows, style, size):
    body = json.dumps({"data": rows}, **style).encode()
    for decode in (users, by_sdk):
        assert outcome(with_format(decode, size=size), body) == outcome(one_by_one(decode), body)


def list_body(name, *rows):
    return b'{"%b":[%b]}' % (name.encode(), b",".join(rows))


OTHER_ORDER = [b'{"ts":1,"userCount":2}', b'{"zz":0,"ts":1,"userCount":2}', *[b'{"ts":1,"userCount":2}'] * 40_000]


@pytest.mark.slow_except("numbers as text", "small items", "another order")
@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (sessions, list_body("call_info", *[b'{"sid":"a","uid":"7","join_ts":"8","speaker":"true"}'] * 20_000)),
        (metrics, b'{"metrics":[{"sid":"a","data":[{"mid":1,"kvs":[%b]}]}]}' % b",".join([b'["1","2"]'] * 90_000)),
        (users, list_body("data", *[b'{"ts":"1","userCount":"2"}'] * 40_000)),
        (users, list_body("data", *[b'{"ts":"1","users":2.5}'] * 40_000)),
        (users, list_body("data", *OTHER_ORDER)),
        (metrics, list_body("metrics", *[b'{"sid":"a","data":[{"mid":1,"kvs":[]}]}'] * 20_000)),
    ],
    ids=["numbers as text", "samples as text", "points as text", "another name", "another order", "small items"],
)
def test_items_with_the_same_wrong_types_are_decoded_together(decode, body):
    assert decode(body).skipped == ()
    steps = sum(1 for _ in decode.steps(body))
    assert steps < len(body) / 500  # more bytes a step than any item has


def test_at_most_a_thousand_broken_characters_are_reported():
    page = sessions(list_body("call_info", *[rb'{"sid":"\ud83d"}'] * 5_000))
    assert [session.sid for session in page.items] == ["\ufffd"] * 5_000
    assert [bad_row.path for bad_row in page.skipped] == [f"$.call_info[{at}]" for at in range(1_000)]


LENIENT_TRACK = b'{"mid":1,"peer_uid":"bob","kvs":[]}'


@pytest.mark.parametrize(
    ("decode", "body", "limit"),
    [
        (metrics, b"{%b}" % b",".join(b'"k%d":0' % at for at in range(10_000)), "4096 members"),
        (metrics, list_body("metrics", b"{%b}" % (b'"sid":"a",' * 10_000 + b'"data":1')), "4096 members"),
        (metrics, list_body("metrics", *[b'{"sid":"a","data":[%b]}' % LENIENT_TRACK] * 5_000), "4096 members"),
        (
            metrics,
            list_body("metrics", b'{"sid":"a","data":[%b]}' % b",".join([LENIENT_TRACK] * 3_000)),
            "4096 members",
        ),
        (sessions, list_body("call_info", *[b'{"sid":"a","roles":"HOST"}'] * 3_000), "2048 items"),
    ],
    ids=["members", "members of an item", "tracks of many sessions", "tracks of one session", "sessions"],
)
def test_the_number_of_items_that_are_decoded_one_by_one_is_limited(decode, body, limit, monkeypatch):
    monkeypatch.setattr(chunks, "_MAX_MEMBERS", 4_096)
    monkeypatch.setattr(chunks, "_MAX_LENIENT", 2_048)
    with pytest.raises(DecodeError, match=f"more than {limit}"):
        decode(body)


def test_all_tracks_of_peers_with_text_ids_are_decoded():
    """Some accounts have text as user IDs: 20 sessions with many peers each, as many as a page may have."""
    tracks = b",".join([LENIENT_TRACK] * 300)
    result = metrics(list_body("metrics", *[b'{"sid":"a","data":[%b]}' % tracks] * 20))
    assert [len(session.data) for session in result.metrics] == [300] * 20
    assert result.skipped == ()
