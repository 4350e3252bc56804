"""Decoding responses into models: small deviations are tolerated, everything else is one exact error."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from agora_analytics._core.decoding import codec
from agora_analytics.errors import AgoraError, DecodeError, TransportError
from agora_analytics.models import (
    Call,
    CallPage,
    FreezeBucket,
    MetricsAnswer,
    Point,
    Ranked,
    Rows,
    Session,
    SessionMetrics,
    SessionPage,
    Statistic,
    Total,
    Track,
)

calls = codec.decoder(CallPage)
sessions = codec.decoder(SessionPage)
metrics = codec.decoder(MetricsAnswer)
statistics = codec.decoder(Rows[Statistic])
buckets = codec.decoder(Rows[FreezeBucket])
users = codec.points_decoder("userCount")
by_sdk = codec.points_decoder("userCount", "sdk")
by_user = codec.user_points_decoder("networkDelay")
peaks = codec.totals_decoder("peakCurrentUsers")
totals = codec.totals_decoder("userCount", "sdk")
top = codec.ranked_decoder("audioFreezeRate", "device")
top_users = codec.ranked_decoder("userCount", "device")


def read(decode, **document):
    return decode(json.dumps(document).encode())


def decode_strictly(decode, **document):
    return decode(json.dumps(document).encode(), strict=True)


def decode_row(decode, row, key="data"):
    """Decode a response with this row only, and return the item that it becomes."""
    (item,) = read(decode, **{key: [row]}).items
    return item


def call(**fields):
    return decode_row(calls, {"call_id": "c"} | fields, "call_lists")


def session(**fields):
    return decode_row(sessions, {"sid": "s"} | fields, "call_info")


def tracks(*data):
    return read(metrics, metrics=[{"sid": "s", "data": list(data)}]).metrics[0].data


# The envelope.


@pytest.mark.parametrize(("code", "expected"), [({}, None), ({"code": 0}, 0), ({"code": 200}, 200), ({"code": "0"}, 0)])
@pytest.mark.parametrize("message", ["", "success", "null", None])
@pytest.mark.parametrize("decode", [calls, users, totals, top, by_user, statistics])
def test_code_and_message_of_an_envelope_are_read_in_every_form(decode, code, expected, message):
    response = read(decode, data=[], call_lists=[], message=message, **code)
    assert (response.code, response.message, response.items) == (expected, message, ())


@pytest.mark.parametrize("decode", [users, by_sdk, totals, top, by_user, statistics, buckets])
def test_null_rows_decode_as_no_rows(decode):
    assert read(decode, code=300, data=None).items == ()


def test_null_lists_decode_as_empty_pages():
    assert read(calls, call_lists=None).items == read(sessions, call_info=None).items == ()
    assert read(metrics, metrics=None).metrics is None


# Call Inspector.


@pytest.mark.parametrize("field", [name for name in Call.__slots__ if name not in {"call_id", "__weakref__"}])
def test_every_field_of_a_call_but_its_id_may_be_missing(field):
    assert call(**{field: None}) == call() == Call(call_id="c")


@pytest.mark.parametrize("field", [name for name in Session.__slots__ if name not in {"sid", "__weakref__"}])
def test_every_field_of_a_session_but_its_id_may_be_missing(field):
    assert session(**{field: None}) == session() == Session(sid="s")


@pytest.mark.parametrize(
    ("sent", "uid"),
    [
        (1, 1),
        ("1234567", 1_234_567),
        (4_294_967_295, 4_294_967_295),
        ("4294967295", 4_294_967_295),
        ("0042", 42),
        ("alice", "alice"),
        ("-1", "-1"),
        ("", ""),
        (12.0, 12),
        (None, None),
    ],
)
def test_a_uid_decodes_as_a_number_if_possible_and_as_text_otherwise(sent, uid):
    (track,) = tracks({"mid": 1, "kvs": [], "peer_uid": sent})
    assert repr((session(uid=sent).uid, track.peer_uid)) == repr((uid, uid))


@pytest.mark.parametrize(
    ("sent", "roles"),
    [("HOST", ("HOST",)), (["A", "B"], ("A", "B")), ([], ()), (None, None), (["a new one"], ("a new one",))],
)
def test_roles_decode_from_a_list_or_a_single_text(sent, roles):
    assert session(roles=sent).roles == roles


@pytest.mark.parametrize(
    ("field", "sent", "value"),
    [
        ("created_ts", 1.0, 1),
        ("created_ts", "1547448383", 1_547_448_383),
        ("created_ts", "1547448383.0", 1_547_448_383),
        ("destroyed_ts", 0, 0),
        ("call_acu", 2, 2.0),
        ("call_acu", 2.25, 2.25),
        ("call_acu", "2.25", 2.25),
        ("call_pcu", 3.0, 3),
        ("call_audio_freeze_rate", 0, 0.0),
        ("call_audio_freeze_rate", "0.12", 0.12),
        ("cname", 12, "12"),
        ("finished", "true", True),
        ("finished", "False", False),
        ("finished", 1, True),
        ("finished", "0", False),
    ],
)
def test_a_value_of_the_wrong_type_is_converted(field, sent, value):
    assert repr(getattr(call(**{field: sent}), field)) == repr(value)


def test_a_call_with_wrong_types_does_not_affect_the_rest_of_its_page():
    page = read(calls, call_lists=[{"call_id": "a", "created_ts": 1}, {"call_id": 7, "created_ts": "2"}], has_more="1")
    assert page.items == (Call(call_id="a", created_ts=1), Call(call_id="7", created_ts=2))
    assert page.has_more is True


def test_samples_may_be_null_fractional_or_text():
    kvs = [[3, 1.5], [1, 2], [5, None], ["7", "8.5"], [9.0, 1]]
    (track,) = tracks({"mid": 20003, "kvs": kvs, "peer_uid": 0})
    assert track == Track(mid=20003, kvs=((3, 1.5), (1, 2.0), (5, None), (7, 8.5), (9, 1.0)), peer_uid=0)
    assert track.points == ((1, 2.0), (3, 1.5), (7, 8.5), (9, 1.0))


def test_unknown_metric_ids_and_sessions_without_data_are_accepted():
    assert tracks({"mid": 99_999, "kvs": []}, {"mid": "20013", "kvs": None}) == (
        Track(mid=99_999, kvs=()),
        Track(mid=20_013, kvs=()),
    )
    response = read(metrics, metrics=[{"sid": "a"}, {"sid": "b", "data": None}, {"sid": "c", "data": []}])
    assert response.metrics == tuple(SessionMetrics(sid=sid) for sid in "abc")


def test_values_of_statistics_and_freeze_buckets_are_converted_too():
    row = {"dimension_value": 7, "user_count": "6", "value": "0.5", "new": 1}
    assert decode_row(statistics, row) == Statistic(dimension_value="7", user_count=6, value=0.5)
    assert decode_row(statistics, {"dimension_value": None}) == Statistic(dimension_value=None)
    assert decode_row(buckets, {"bucket": "[3%,5%)", "user_count": 1.0}) == FreezeBucket(bucket="[3%,5%)", user_count=1)


# Rows whose field names vary.


@pytest.mark.parametrize(
    ("row", "value", "group"),
    [
        ({"ts": 1, "userCount": 2, "sdk": "4"}, 2, "4"),
        ({"ts": 1, "userCount": 2, "sdkVersion": "4"}, 2, "4"),
        ({"ts": 1, "peakConcurrentUsers": 2, "sdk": "4"}, 2, "4"),
        ({"ts": 1, "n": 2, "sdkVersion": "4"}, 2, "4"),
        ({"ts": "1", "userCount": "2", "sdk": "4"}, 2, "4"),
        ({"ts": 1.0, "userCount": 2, "sdk": 4}, 2, "4"),
        ({"ts": 1, "userCount": 2.5, "sdk": None}, 2.5, None),
        ({"ts": 1, "userCount": None, "sdk": "4"}, None, "4"),
        ({"ts": 1, "userCount": "0.5", "sdk": "4", "uid": 3, "refUsage": 9}, 0.5, "4"),
    ],
)
def test_value_and_dimension_of_a_row_are_found_by_elimination(row, value, group):
    point = decode_row(by_sdk, row)
    assert repr((point.ts, point.value, point.dimension_value)) == repr((1, value, group))
    total = decode_row(totals, row)
    assert (total.value, total.dimension_value) == (value, group)


@pytest.mark.parametrize("name", ["peakCurrentUsers", "peakConcurrentUsers", "somethingNew"])
def test_a_peak_is_read_under_any_field_name(name):
    assert decode_row(peaks, {name: 12}) == Total(12)
    assert decode_row(codec.points_decoder("peakCurrentUsers"), {"ts": 1, name: 12}).value == 12


@pytest.mark.parametrize(
    "data", [[{"userCount": 3, "sdk": "4"}], {"list": [{"userCount": 3, "sdk": "4"}]}, {"userCount": 3, "sdk": "4"}]
)
def test_rows_decode_from_a_list_an_object_with_a_list_or_a_single_row(data):
    assert read(totals, data=data).items == (Total(3, "4"),)


@pytest.mark.parametrize("data", [{}, {"list": None}, {"list": []}, [], None])
def test_empty_data_decodes_as_no_rows_in_every_form(data):
    for response in (read(totals, data=data), read(top, data=data)):
        assert (response.items, response.skipped) == ((), ())


def test_the_last_of_two_members_with_the_same_name_wins():
    rows = b'[{"userCount":3,"sdk":"4"}]'
    assert totals(b'{"data":%b,"data":null}' % rows).items == ()
    assert totals(b'{"data":null,"data":%b}' % rows).items == (Total(3, "4"),)


def test_a_top_list_keeps_its_order_and_separates_the_user_count_from_the_value():
    rows = [
        {"device": "b", "audioFreezeRate": 0.5, "userCount": 2, "windowStartTs": "20", "windowEndTs": 40.0},
        {"device": "a", "audioFreezeRate": 0},
        {"model": "c", "rate": None, "userCount": "7"},
    ]
    assert read(top, data=rows).items == (
        Ranked("b", 0.5, 20, 40, 2),
        Ranked("a", 0),
        Ranked("c", None, user_count=7),
    )
    assert decode_row(top_users, {"device": "b", "userCount": 236}) == Ranked("b", 236)


def test_points_by_user_have_their_uid():
    rows = [
        {"uid": "42", "values": [{"ts": 2, "networkDelay": 0.5}, {"ts": "1", "delay": 1}]},
        {"uid": "alice", "values": [{"ts": 1, "networkDelay": 0}]},
        {"uid": 3, "values": None},
    ]
    assert read(by_user, data=rows).items == (
        Point.of(2, 0.5, metric="networkDelay", uid=42),
        Point.of(1, 1, metric="networkDelay", uid=42),
        Point.of(1, 0, metric="networkDelay", uid="alice"),
    )


# Responses that raise an error.


@pytest.mark.parametrize(
    ("decode", "document", "path", "reason"),
    [
        (calls, [], "$", "expected an object, got []"),
        (calls, 7, "$", "expected an object, got 7"),
        (calls, {}, "$.call_lists", "field 'call_lists' is missing"),
        (calls, {"call_lists": 3}, "$.call_lists", "expected a list, got 3"),
        (calls, {"call_lists": [{}]}, "$.call_lists[0].call_id", "field 'call_id' is missing"),
        (calls, {"call_lists": [{"call_id": None}]}, "$.call_lists[0].call_id", "expected text, got None"),
        (
            calls,
            {"call_lists": [{"call_id": "a"}, {"call_id": "b", "created_ts": "soon"}]},
            "$.call_lists[1].created_ts",
            "expected a whole number, got 'soon'",
        ),
        (
            calls,
            {"call_lists": [{"call_id": "a", "created_ts": True}]},
            "$.call_lists[0].created_ts",
            "expected a whole number, got True",
        ),
        (calls, {"call_lists": [], "total_size": "inf"}, "$.total_size", "expected a whole number, got 'inf'"),
        (calls, {"call_lists": [], "has_more": "maybe"}, "$.has_more", "expected true or false, got 'maybe'"),
        (calls, {"call_lists": [], "code": "none"}, "$.code", "expected a whole number, got 'none'"),
        (sessions, {"call_info": [{"sid": "s", "uid": [1]}]}, "$.call_info[0].uid", "expected a whole number, got [1]"),
        (sessions, {"call_info": [{"sid": "s", "roles": 5}]}, "$.call_info[0].roles", "expected a list, got 5"),
        (
            metrics,
            {"metrics": [{"sid": "s", "data": [{"mid": 1, "kvs": [[1, "x"]]}]}]},
            "$.metrics[0].data[0].kvs[0][1]",
            "expected a number, got 'x'",
        ),
        (users, {}, "$.data", "field 'data' is missing"),
        (users, [], "$", "expected an object, got []"),
        (users, {"data": 5}, "$.data", "expected rows, got 5"),
        (users, {"data": [], "code": "x"}, "$.code", "expected a whole number, got 'x'"),
        (users, {"data": [{"userCount": 1}]}, "$.data[0]", "field 'ts' is missing"),
        (users, {"data": [{"ts": None, "userCount": 1}]}, "$.data[0]", "expected a whole number, got None"),
        (users, {"data": [{"ts": "inf", "userCount": 1}]}, "$.data[0]", "expected a whole number, got 'inf'"),
        (users, {"data": [{"ts": 1, "a": 1, "b": 2}]}, "$.data[0]", "cannot tell which of ['a', 'b'] is the value"),
        (users, {"data": [{"ts": 1, "userCount": [1]}]}, "$.data[0]", "expected a number, got [1]"),
        (users, {"data": [{"ts": 1, "userCount": 1}, 3]}, "$.data[1]", "expected an object, got 3"),
        (by_sdk, {"data": [{"ts": 1, "userCount": 1}]}, "$.data[0]", "cannot tell which of [] is the 'sdk'"),
        (by_sdk, {"data": [{"ts": 1, "userCount": 1, "a": "x", "b": "y"}]}, "$.data[0]", "cannot tell which of"),
        (by_user, {"data": [{"values": [{"ts": 1, "userCount": 1}]}]}, "$.data[0]", "field 'uid' is missing"),
        (by_user, {"data": [{"uid": 1, "values": [{"ts": 1}]}]}, "$.data[0]", "cannot tell which of [] is the value"),
    ],
)  # fmt: skip
def test_a_strict_decode_error_has_the_path_and_the_reason(decode, document, path, reason):
    with pytest.raises(DecodeError) as caught:
        decode(json.dumps(document).encode(), strict=True)
    assert caught.value.path == path
    assert caught.value.args[0].startswith(f"the answer does not fit the reference: {reason}")
    assert caught.value.args[0].endswith(f" at {path}")
    assert caught.value.fault == "service"
    assert caught.value.hint


@pytest.mark.parametrize("decode", [calls, users, totals])
@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", TransportError, "the answer is empty"),
        (b" \n", TransportError, "the answer is empty"),
        (b'{"data": [', TransportError, "the answer is cut off after 10 bytes"),
        (b"null", TransportError, "the answer is empty"),
        (b"\n<!doctype html><title>Log  in</title>", TransportError, "not JSON: '<!doctype html><title>Log in</tit"),
        (b"<?xml version='1.0'?><Error/>", TransportError, "the answer is HTML or XML, not JSON: "),
        (b"upstream connect error", TransportError, "the answer is not JSON: "),
        (b"\0" * 1_000, TransportError, "the answer is not JSON: "),
        (b'{"data": nil, "call_lists": nil}', DecodeError, "JSON is malformed: invalid character"),
        (b'{"data": [], "call_lists": []} extra', DecodeError, "the answer is not JSON: more after the end"),
        (b'{"data" [], "call_lists": []}', DecodeError, "the answer is not JSON: expected a name"),
        (b"[" * 100_000 + b"]" * 100_000, DecodeError, "expected an object, got [] at $"),
        (b'{"data": 1e999, "call_lists": 1e999}', DecodeError, "Number out of range"),
    ],
)
def test_a_body_that_is_not_json_raises_the_right_kind_of_error(decode, body, kind, reason):
    with pytest.raises(AgoraError) as caught:
        decode(body)
    assert type(caught.value) is kind
    assert reason in str(caught.value)
    assert caught.value.hint
    assert len(str(caught.value)) < 600


@pytest.mark.slow_except("decode0")
@pytest.mark.parametrize("decode", [calls, users, totals, by_user])
def test_deeply_nested_json_does_not_crash_the_decoder(decode):
    for depth in range(940, 1_005):
        deep = b"[" * depth + b"]" * depth
        listed = b'{"list":' * depth + b"1" + b"}" * depth
        rows = b'[{"ts":1,"uid":1,"values":%b,"userCount":%b}]' % (deep, deep)
        for body in (deep, listed, rows):
            with suppress(AgoraError):
                decode(b'{"data":%b,"call_lists":%b}' % (body, body))


def test_an_error_about_a_large_value_stays_short():
    with pytest.raises(DecodeError) as caught:
        decode_strictly(calls, call_lists=[{"call_id": list(range(100_000))}])
    assert len(str(caught.value)) < 300
