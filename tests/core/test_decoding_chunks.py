"""Answers in pieces: cut anywhere, whatever is wrong with them, what is right of them is read."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics._core.decoding import codec, scanner
from agora_analytics._core.decoding.json import JsonSyntaxError
from agora_analytics.errors import AgoraError, DecodeError, TransportError
from agora_analytics.models import BadRow, Call, CallPage, MetricsAnswer, SessionPage

calls = codec.decoder(CallPage)
sessions = codec.decoder(SessionPage)
metrics = codec.decoder(MetricsAnswer)
users = codec.points_decoder("userCount")
by_sdk = codec.points_decoder("userCount", "sdk")
by_user = codec.user_points_decoder("networkDelay")
totals = codec.totals_decoder("userCount", "sdk")


def read(decode, *, strict=False, **document):
    return decode(json.dumps(document).encode(), strict=strict)


def in_pieces(decode, size):
    """The same decoder without its fast road for small answers, and with pieces of a few bytes."""

    def smaller(form):
        return attrs.evolve(form, size=size, parts={name: smaller(part) for name, part in form.parts.items()})

    return attrs.evolve(decode, form=lambda: smaller(decode._form()), exact=None)


# What could be taken for the end of an item, and texts in which nothing may be cut.
text = st.sampled_from(['},{"sid":', "],[", '}]},{"mid":', '"', "\\", '\\"}]', "a", "é\u2028", ""]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=6
)
whole = st.integers(-(2**63), 2**63 - 1)
sample = st.tuples(whole, st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9))
track = st.fixed_dictionaries({"mid": whole, "kvs": st.lists(sample, max_size=6)}, optional={"new": text})
measured = st.fixed_dictionaries({"sid": text, "data": st.lists(track, max_size=4)}, optional={"more": st.lists(text)})
answer = st.fixed_dictionaries({"code": st.just(0), "message": text, "metrics": st.lists(measured, max_size=5)})
spelling = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@given(answer, spelling, st.integers(1, 200))
def test_an_answer_in_pieces_is_the_answer_in_one(document, how, size):
    body = json.dumps(document, **how).encode()
    found = in_pieces(metrics, size)(body, strict=True)
    assert found == metrics._exact(body)
    assert found.skipped == ()


@given(st.lists(st.fixed_dictionaries({"ts": whole, "userCount": whole, "sdk": text})), spelling, st.integers(1, 99))
def test_rows_in_pieces_are_the_rows_in_one(rows, how, size):
    body = json.dumps({"data": rows}, **how).encode()
    assert in_pieces(by_sdk, size)(body, strict=True) == by_sdk._exact(body)


json_values = st.recursive(
    st.none() | st.booleans() | whole | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=30,
)


@given(json_values.filter(lambda value: isinstance(value, str | list | dict)), spelling, st.binary(max_size=5))
def test_a_value_is_found_to_end_where_it_does(value, how, behind):
    body = json.dumps(value, **how).encode()
    assert last(scanner.skip(b" " + body + behind, 1)) == 1 + len(body)
    with pytest.raises(JsonSyntaxError) as caught:
        last(scanner.skip(body[:-1], 0))
    assert caught.value.ended


@given(answer, spelling, st.data())
def test_an_answer_that_ends_early_is_cut_off_wherever_that_is(document, how, data):
    body = json.dumps(document, **how).encode()
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    with pytest.raises(TransportError, match="cut off after"):
        metrics(cut)


def last(steps):
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def test_a_value_is_found_to_end_however_many_windows_it_takes():
    for inner in (b"[" * 9_000 + b"]" * 9_000, b'{"a":"]\\"}"},' * 3_000 + b"1", b'"' + b"\\\\" * 40_001 + b'"'):
        body = b"[" + inner + b"]"
        assert last(scanner.skip(body + b"]}", 0)) == len(body)
        assert last(scanner.skip(body, 0, 10)) is None


# What does not fit.


def page_of(count, bad, row):
    rows = [{"call_id": f"c{number}", "cname": "a" * 50} for number in range(count)]
    rows[bad] = row
    return rows


@pytest.mark.parametrize(("count", "bad"), [(3, 0), (3, 1), (3, 2), (5_000, 0), (5_000, 2_500), (5_000, 4_999)])
@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"call_id": None}, ".call_id", "expected text, got None"),
        ({}, ".call_id", "field 'call_id' is missing"),
        ({"call_id": "c", "call_pcu": 2.5}, ".call_pcu", "expected a whole number, got 2.5"),
        ([], "", "expected an object, got []"),
    ],
)
def test_a_row_that_does_not_fit_is_skipped_and_told(count, bad, row, field, reason):
    page = read(calls, call_lists=page_of(count, bad, row))
    assert [call.call_id for call in page.items] == [f"c{number}" for number in range(count) if number != bad]
    assert page.skipped == (BadRow(f"$.call_lists[{bad}]{field}", reason),)
    with pytest.raises(DecodeError, match="does not fit") as caught:
        read(calls, strict=True, call_lists=page_of(count, bad, row))
    assert caught.value.path == page.skipped[0].path


def test_a_page_of_one_row_that_does_not_fit_is_an_empty_page():
    page = read(calls, call_lists=[{"call_id": None}])
    assert page.items == ()
    assert len(page.skipped) == 1


@pytest.mark.parametrize("rows", [[{}, {}], [{"call_id": "a"}] + [{}] * 1_001])
def test_an_answer_of_misfits_is_an_error(rows):
    with pytest.raises(DecodeError, match="field 'call_id' is missing at"):
        read(calls, call_lists=rows)


def test_a_sample_that_does_not_fit_takes_no_other_with_it():
    data = [{"mid": 1, "kvs": [[1, 2], [2, "x"], [3, 4]]}, {"mid": 2, "kvs": [[1, 1]]}, {"mid": None, "kvs": []}]
    answer = read(metrics, metrics=[{"sid": "a", "data": data}, {"sid": "b", "data": []}])
    assert [track.kvs for track in answer.metrics[0].data] == [((1, 2.0), (3, 4.0)), ((1, 1.0),)]
    assert [spot.path for spot in answer.skipped] == ["$.metrics[0].data[0].kvs[1][1]", "$.metrics[0].data[2].mid"]


@pytest.mark.parametrize(
    "value", ["NaN", "nan", "inf", "-Infinity", "1_0", "٣", "²", " 1", "0x10", "1e999", "", 2**63, True]
)
def test_what_is_no_number_is_never_taken_for_one(value):
    rows = [{"ts": 1, "userCount": 1}, {"ts": 2, "userCount": value}]
    for decode in (users, codec.totals_decoder("userCount")):
        answer = read(decode, data=rows)
        assert [row.value for row in answer.items] == [1]
        assert [spot.path for spot in answer.skipped] == ["$.data[1]"]
    page = read(calls, call_lists=[{"call_id": "a", "call_pcu": value}, {"call_id": "b"}])
    assert page.items == (Call(call_id="b"),)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_no_model_holds_an_integer_beyond_64_bits(number):
    assert (
        read(sessions, call_info=[{"sid": "a", "uid": number}, {"sid": "b", "join_ts": number}, {"sid": "c"}])
        .items[0]
        .sid
        == "c"
    )
    assert [uid.uid for uid in read(sessions, call_info=[{"sid": "a", "uid": str(10**30)}]).items] == [str(10**30)]
    assert len(read(metrics, metrics=[{"sid": "a", "data": [{"mid": 1, "kvs": [[number, 1]]}]}]).skipped) == 1
    assert len(read(users, data=[{"ts": 2.0 * number, "userCount": 1}]).skipped) == 1
    with pytest.raises(DecodeError) as caught:
        read(calls, code=number, call_lists=[{"call_id": "a"}])
    assert caught.value.answer.code is None


@pytest.mark.parametrize("broken", [rb"iPhone \ud83d", rb"\ude00 \ud83d\ude00", b"iPhone \xf0\x9f", rb"\\ud83d \ud83d"])
def test_half_a_character_costs_no_more_than_itself(broken):
    body = b'{"call_info":[{"sid":"a"},{"sid":"b","device_type":"%b"},{"sid":"c"}]}' % broken
    page = sessions(body)
    assert [session.sid for session in page.items] == ["a", "b", "c"]
    assert "\ufffd" in page.items[1].device_type
    assert ("\U0001f600" in page.items[1].device_type) is (b"ude00" in broken)
    assert [(spot.path, spot.whole) for spot in page.skipped] == [("$.call_info[1]", False)]
    with pytest.raises(DecodeError):
        sessions(body, strict=True)


def test_half_a_character_is_told_of_what_is_odd_in_other_ways_too():
    page = sessions(rb'{"call_info":[{"sid":"a","roles":"HOST","device_type":"iPhone \ud83d"}]}')
    assert page.items[0].roles == ("HOST",)
    assert [(spot.path, spot.whole) for spot in page.skipped] == [("$.call_info[0]", False)]


def test_a_number_that_is_spelled_in_escapes_is_none():
    page = calls(rb'{"call_lists":[{"call_id":"a","call_acu":"\u006ean"},{"call_id":"b"}]}')
    assert [call.call_id for call in page.items] == ["b"]


def test_an_item_of_more_than_a_mebibyte_is_skipped_and_told():
    page = read(calls, call_lists=[{"call_id": "a"}, {"call_id": "b", "cname": "x" * (1 << 20)}, {"call_id": "c"}])
    assert [call.call_id for call in page.items] == ["a", "c"]
    assert [(spot.path, spot.reason) for spot in page.skipped] == [
        ("$.call_lists[1]", "it is longer than 1048576 bytes")
    ]


def test_what_an_item_says_is_not_what_the_answer_says():
    with pytest.raises(DecodeError) as caught:
        read(metrics, code=0, metrics=[{"sid": at, "code": 401, "data": 1} for at in range(2)])
    assert caught.value.answer.code == 0


def test_a_byte_order_mark_is_passed_over():
    assert calls(b'\xef\xbb\xbf{"call_lists":[{"call_id":"a"}]}', strict=True).items == (Call(call_id="a"),)


def test_what_is_skipped_is_for_the_decoder_to_say():
    spots = [{"path": "$", "reason": "forged"}]
    assert read(calls, call_lists=[], skipped=spots).skipped == ()
    assert read(calls, call_lists=[], skipped="x").skipped == ()


@pytest.mark.parametrize("sent", ["x", 3, [{"start": 1, "end": 2}], None])
def test_what_is_missing_of_a_page_is_for_the_library_to_say(sent):
    page = read(sessions, call_info=[{"sid": "a"}], missing=sent)
    assert (page.missing, page.skipped, len(page.items)) == ((), (), 1)


@pytest.mark.parametrize("kind", [lambda rows: rows, lambda rows: {"list": rows, "more": 1}])
def test_rows_in_an_object_are_as_good_as_bare_ones(kind):
    rows = [{"userCount": 1, "sdk": "a"}, {"sdk": "b"}, {"userCount": 3, "sdk": "c"}]
    answer = read(totals, data=kind(rows))
    assert [total.value for total in answer.items] == [1, 3]
    assert len(answer.skipped) == 1


# What anyone may send.

HOSTILE = {
    "objects": b'{"call_lists":[' + b"{}," * 700_000 + b'{}],"data":[]}',
    "lists": b'{"call_lists":[' + b"[]," * 700_000 + b'[]],"data":[]}',
    "ignored": b'{"call_lists":[],"data":[],"z":[' + b"{}," * 700_000 + b"{}]}",
    "deep": b'{"call_lists":[],"data":[],"z":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    "saw": b'{"call_lists":[],"data":[],"z":[' + (b"[" * 500 + b"]" * 500 + b",") * 2_000 + b"1]}",
    "unended": b'{"call_lists":' + b"[" * 2_000_000,
    "quotes": b'{"call_lists":[' + b'"",' * 700_000 + b'""]}',
    "escapes": b'{"call_lists":[],"data":[],"message":"' + b'\\"' * 1_000_000 + b'"}',
    "spaces": b'{"call_lists":[' + b" " * 2_000_000 + b"]}",
    "name": b'{"' + b"k" * 2_000_000 + b'":1,"call_lists":[]}',
    "digits": b'{"call_lists":[],"data":[],"total_size":' + b"9" * 2_000_000 + b"}",
}


@pytest.mark.parametrize("decode", [calls, users, totals])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_ends_in_few_words_and_small_steps(decode, name):
    body, steps = HOSTILE[name], 0
    try:
        for _ in decode.steps(body):
            steps += 1
    except AgoraError as error:
        said = str(error)
        assert len(said) < 900
        assert said.isprintable()
        if "cut off" not in said:
            return  # the first misfits are enough
    assert steps > len(body) / 200_000


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda part: b'{"call_lists":[' + part + b"]}"))
def test_no_bytes_raise_anything_else(body):
    for decode in (calls, users, by_user, metrics, totals):
        for one in (decode, in_pieces(decode, 5)):
            assert refusal(one, body).isprintable()


def refusal(decode, body):
    try:
        decode(body)
    except AgoraError as error:
        return str(error)
    return ""
