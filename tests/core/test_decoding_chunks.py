"""Decoding in pieces: valid rows are read wherever a response is cut, and invalid ones are skipped and reported."""

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
    """The same decoder without its fast path for small responses, and with pieces of a few bytes."""

    def smaller(form):
        return attrs.evolve(form, size=size, parts={name: smaller(part) for name, part in form.parts.items()})

    return attrs.evolve(decode, form=lambda: smaller(decode._form()), exact=None)


# Texts that look like the end of an item, and texts that must not be cut.
texts = st.sampled_from(['},{"sid":', "],[", '}]},{"mid":', '"', "\\", '\\"}]', "a", "é\u2028", ""]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=6
)
integers = st.integers(-(2**63), 2**63 - 1)
samples = st.tuples(integers, st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9))
tracks = st.fixed_dictionaries({"mid": integers, "kvs": st.lists(samples, max_size=6)}, optional={"new": texts})
session_documents = st.fixed_dictionaries(
    {"sid": texts, "data": st.lists(tracks, max_size=4)}, optional={"more": st.lists(texts)}
)
response = st.fixed_dictionaries(
    {"code": st.just(0), "message": texts, "metrics": st.lists(session_documents, max_size=5)}
)
json_styles = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@given(response, json_styles, st.integers(1, 200))
def test_a_response_decoded_in_pieces_equals_one_decoded_at_once(document, style, size):
    body = json.dumps(document, **style).encode()
    decoded = in_pieces(metrics, size)(body, strict=True)
    assert decoded == metrics._exact(body)
    assert decoded.skipped == ()


@given(
    st.lists(st.fixed_dictionaries({"ts": integers, "userCount": integers, "sdk": texts})),
    json_styles,
    st.integers(1, 99),
)
def test_rows_decoded_in_pieces_equal_rows_decoded_at_once(rows, style, size):
    body = json.dumps({"data": rows}, **style).encode()
    assert in_pieces(by_sdk, size)(body, strict=True) == by_sdk._exact(body)


json_values = st.recursive(
    st.none() | st.booleans() | integers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=30,
)


@given(json_values.filter(lambda value: isinstance(value, str | list | dict)), json_styles, st.binary(max_size=5))
def test_the_scanner_finds_the_end_of_any_json_value(value, style, suffix):
    body = json.dumps(value, **style).encode()
    assert run_to_end(scanner.skip(b" " + body + suffix, 1)) == 1 + len(body)
    with pytest.raises(JsonSyntaxError) as caught:
        run_to_end(scanner.skip(body[:-1], 0))
    assert caught.value.ended


@given(response, json_styles, st.data())
def test_a_response_cut_off_anywhere_raises_a_transport_error(document, style, data):
    body = json.dumps(document, **style).encode()
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    with pytest.raises(TransportError, match="cut off after"):
        metrics(cut)


def run_to_end(steps):
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def test_the_scanner_finds_the_end_of_a_value_across_many_windows():
    for inner in (b"[" * 9_000 + b"]" * 9_000, b'{"a":"]\\"}"},' * 3_000 + b"1", b'"' + b"\\\\" * 40_001 + b'"'):
        body = b"[" + inner + b"]"
        assert run_to_end(scanner.skip(body + b"]}", 0)) == len(body)
        assert run_to_end(scanner.skip(body, 0, 10)) is None


# Invalid rows.


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
def test_an_invalid_row_is_skipped_and_reported(count, bad, row, field, reason):
    page = read(calls, call_lists=page_of(count, bad, row))
    assert [call.call_id for call in page.items] == [f"c{number}" for number in range(count) if number != bad]
    assert page.skipped == (BadRow(f"$.call_lists[{bad}]{field}", reason),)
    with pytest.raises(DecodeError, match="does not fit") as caught:
        read(calls, strict=True, call_lists=page_of(count, bad, row))
    assert caught.value.path == page.skipped[0].path


def test_a_page_with_a_single_invalid_row_is_empty():
    page = read(calls, call_lists=[{"call_id": None}])
    assert page.items == ()
    assert len(page.skipped) == 1


@pytest.mark.parametrize("rows", [[{}, {}], [{"call_id": "a"}] + [{}] * 1_001])
def test_a_response_with_no_valid_row_or_too_many_invalid_rows_raises(rows):
    with pytest.raises(DecodeError, match="field 'call_id' is missing at"):
        read(calls, call_lists=rows)


def test_an_invalid_sample_is_skipped_alone():
    data = [{"mid": 1, "kvs": [[1, 2], [2, "x"], [3, 4]]}, {"mid": 2, "kvs": [[1, 1]]}, {"mid": None, "kvs": []}]
    response = read(metrics, metrics=[{"sid": "a", "data": data}, {"sid": "b", "data": []}])
    assert [track.kvs for track in response.metrics[0].data] == [((1, 2.0), (3, 4.0)), ((1, 1.0),)]
    assert [bad_row.path for bad_row in response.skipped] == [
        "$.metrics[0].data[0].kvs[1][1]",
        "$.metrics[0].data[2].mid",
    ]


@pytest.mark.parametrize(
    "value", ["NaN", "nan", "inf", "-Infinity", "1_0", "٣", "²", " 1", "0x10", "1e999", "", 2**63, True]
)
def test_a_value_that_is_not_a_number_makes_its_row_invalid(value):
    rows = [{"ts": 1, "userCount": 1}, {"ts": 2, "userCount": value}]
    for decode in (users, codec.totals_decoder("userCount")):
        response = read(decode, data=rows)
        assert [row.value for row in response.items] == [1]
        assert [bad_row.path for bad_row in response.skipped] == ["$.data[1]"]
    page = read(calls, call_lists=[{"call_id": "a", "call_pcu": value}, {"call_id": "b"}])
    assert page.items == (Call(call_id="b"),)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_no_model_has_an_integer_beyond_64_bits(number):
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
def test_a_broken_character_is_replaced_and_reported(broken):
    body = b'{"call_info":[{"sid":"a"},{"sid":"b","device_type":"%b"},{"sid":"c"}]}' % broken
    page = sessions(body)
    assert [session.sid for session in page.items] == ["a", "b", "c"]
    assert "\ufffd" in page.items[1].device_type
    assert ("\U0001f600" in page.items[1].device_type) is (b"ude00" in broken)
    assert [(bad_row.path, bad_row.whole) for bad_row in page.skipped] == [("$.call_info[1]", False)]
    with pytest.raises(DecodeError):
        sessions(body, strict=True)


def test_a_broken_character_is_reported_in_a_row_that_needs_lenient_decoding_too():
    page = sessions(rb'{"call_info":[{"sid":"a","roles":"HOST","device_type":"iPhone \ud83d"}]}')
    assert page.items[0].roles == ("HOST",)
    assert [(bad_row.path, bad_row.whole) for bad_row in page.skipped] == [("$.call_info[0]", False)]


def test_nan_spelled_with_escapes_makes_its_row_invalid():
    page = calls(rb'{"call_lists":[{"call_id":"a","call_acu":"\u006ean"},{"call_id":"b"}]}')
    assert [call.call_id for call in page.items] == ["b"]


def test_an_item_of_more_than_a_mebibyte_is_skipped_and_reported():
    page = read(calls, call_lists=[{"call_id": "a"}, {"call_id": "b", "cname": "x" * (1 << 20)}, {"call_id": "c"}])
    assert [call.call_id for call in page.items] == ["a", "c"]
    assert [(bad_row.path, bad_row.reason) for bad_row in page.skipped] == [
        ("$.call_lists[1]", "it is longer than 1048576 bytes")
    ]


def test_the_code_of_an_item_is_not_taken_for_the_code_of_the_response():
    with pytest.raises(DecodeError) as caught:
        read(metrics, code=0, metrics=[{"sid": at, "code": 401, "data": 1} for at in range(2)])
    assert caught.value.answer.code == 0


def test_a_byte_order_mark_is_ignored():
    assert calls(b'\xef\xbb\xbf{"call_lists":[{"call_id":"a"}]}', strict=True).items == (Call(call_id="a"),)


def test_a_member_named_skipped_is_ignored():
    bad_rows = [{"path": "$", "reason": "forged"}]
    assert read(calls, call_lists=[], skipped=bad_rows).skipped == ()
    assert read(calls, call_lists=[], skipped="x").skipped == ()


@pytest.mark.parametrize("sent", ["x", 3, [{"start": 1, "end": 2}], None])
def test_a_member_named_missing_is_ignored(sent):
    page = read(sessions, call_info=[{"sid": "a"}], missing=sent)
    assert (page.missing, page.skipped, len(page.items)) == ((), (), 1)


@pytest.mark.parametrize("kind", [lambda rows: rows, lambda rows: {"list": rows, "more": 1}])
def test_rows_in_an_object_decode_like_a_bare_list(kind):
    rows = [{"userCount": 1, "sdk": "a"}, {"sdk": "b"}, {"userCount": 3, "sdk": "c"}]
    response = read(totals, data=kind(rows))
    assert [total.value for total in response.items] == [1, 3]
    assert len(response.skipped) == 1


# Hostile responses.

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
def test_a_hostile_response_is_decoded_in_small_steps_and_its_error_is_short(decode, name):
    body, steps = HOSTILE[name], 0
    try:
        for _ in decode.steps(body):
            steps += 1
    except AgoraError as error:
        message = str(error)
        assert len(message) < 900
        assert message.isprintable()
        if "cut off" not in message:
            return  # decoding stops at the first invalid items
    assert steps > len(body) / 200_000


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda part: b'{"call_lists":[' + part + b"]}"))
def test_random_bytes_raise_only_documented_errors(body):
    for decode in (calls, users, by_user, metrics, totals):
        for decoder in (decode, in_pieces(decode, 5)):
            assert error_text(decoder, body).isprintable()


def error_text(decode, body):
    try:
        decode(body)
    except AgoraError as error:
        return str(error)
    return ""
