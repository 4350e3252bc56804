"""Models are attrs classes: `json.dumps(attrs.asdict(model))` serializes any of them; a window takes one line more."""

from __future__ import annotations

import copy
import json
import pickle
import re

import attrs
import pytest
from helpers.pages import ROOT

from agora_analytics import (
    BadRow,
    Call,
    Found,
    FreezeBucket,
    Point,
    Ranked,
    Series,
    Session,
    SessionMetrics,
    Span,
    Statistic,
    Total,
    Track,
    Window,
)
from agora_analytics.models import CallPage, SessionPage

GUIDE = ROOT / "docs/guides/calls.md"

MODELS = [
    CallPage(calls=(Call(call_id="a", created_ts=1),)),
    SessionPage(sessions=(Session(sid="s", uid=3, roles=("x",)),)),
    SessionMetrics(sid="s", data=(Track(mid=1, kvs=((1, 2.5), (2, None)), peer_uid=0),)),
    Statistic(dimension_value="India", user_count=1, value=0.5),
    FreezeBucket(bucket="[3%,5%)", user_count=1),
    Point.of(20, 3, metric="userCount", dimension="os", dimension_value="iOS", uid=7),
    Total(1.5, "iOS"),
    Ranked("iOS", 2, 0, 20),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_serializes_to_json_with_all_its_fields(model):
    document = json.loads(json.dumps(attrs.asdict(model)))
    assert list(document) == [field.name for field in attrs.fields(type(model))]


def test_a_found_result_serializes_to_a_json_list():
    found = Found([Point.of(20, 3), Point.of(40, 4)], missing=(Span(0, 20),))
    assert json.loads(json.dumps([attrs.asdict(point) for point in found])) == [
        {"ts": 20, "value": 3},
        {"ts": 40, "value": 4},
    ]


def test_a_window_serializes_to_json_by_the_line_in_the_guide():
    [line] = re.findall(r"`(json\.dumps\(\{str\(series\).*?)`", GUIDE.read_text(encoding="utf-8").replace("\n", " "))
    users, rates = Series("userCount", product="Native", dimension="os"), Series("videoFreezeRate", product="Native")
    points = (Point.of(20, 3, metric="userCount", dimension="os", dimension_value="iOS"),)
    window = Window(ts=20, values={users: points}, missing={rates: "no data"})
    document = json.loads(eval(line, {"json": json, "attrs": attrs, "window": window}))  # noqa: S307 - our own guide
    assert document == {str(users): [{"ts": 20, "userCount": 3, "os": "iOS"}]}


def test_a_point_serializes_with_the_field_names_of_the_service():
    assert attrs.asdict(MODELS[5]) == {"ts": 20, "userCount": 3, "os": "iOS", "uid": 7}


@pytest.mark.parametrize("copy_of", [lambda found: pickle.loads(pickle.dumps(found)), copy.copy, copy.deepcopy])
def test_a_copy_of_a_found_result_keeps_its_reports_and_equals_a_tuple(copy_of):
    found = Found([Point.of(20, 3)], missing=(Span(0, 20),), skipped=(BadRow("$.data[1]", "why"),))
    copied = copy_of(found)
    assert (copied, copied.missing, copied.skipped) == (tuple(found), found.missing, found.skipped)
    assert hash(copied) == hash(tuple(found))
