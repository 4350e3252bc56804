"""Spans: which values are times, and slices that lose nothing, repeat nothing and respect every limit."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agora_analytics.spans import WINDOW, Span, is_moment, length, merged, moment, seconds, without

NOW = 1_795_521_600
DAY = 86_400
TOKYO = timezone(timedelta(hours=9))

times = st.integers(0, 2 * NOW)
durations = st.integers(1, 40 * DAY)
spans = st.builds(lambda start, duration: Span(start, start + duration), times, durations)


def slice_length(span: Span, pieces: int) -> int:
    """A length that cuts a span into about this many pieces."""
    return max(1, span.duration // pieces)


# Times and durations.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (NOW, NOW),
        (99_999_999_999, 99_999_999_999),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(2026, 11, 24, 12, tzinfo=UTC), 1_795_521_600),
        (datetime(2026, 11, 24, 21, tzinfo=TOKYO), 1_795_521_600),
        (datetime(2026, 11, 24, 12, 0, 0, 999_999, tzinfo=UTC), 1_795_521_600),
    ],
)
def test_a_time_is_whole_utc_seconds_rounded_down(value, expected):
    result = seconds(value)
    assert (result, type(result)) == (expected, int)


@given(st.datetimes(datetime(1970, 1, 2), datetime(5000, 1, 1), timezones=st.timezones()))  # noqa: DTZ001 - required
def test_any_aware_datetime_is_rounded_down_to_its_second(at):
    assert datetime.fromtimestamp(seconds(at), UTC) == at.astimezone(UTC).replace(microsecond=0)


BAD_TIMES = [
    (datetime(2026, 11, 24), ValueError, "start=datetime.datetime(2026, 11, 24, 0, 0) is naive: give it a time zone"),  # noqa: DTZ001
    (1.7e9, ValueError, "start=1700000000.0: allowed are an aware datetime or whole seconds since 1970 as an int"),
    (NOW * 1000, ValueError, f"start={NOW}000 is not a time in seconds (milliseconds? divide by 1000)"),
    (100_000_000_000, ValueError, "milliseconds? divide by 1000"),
    (-1, ValueError, "start=-1 is not a time in seconds (before 1970)"),
    (datetime(1969, 12, 31, tzinfo=UTC), ValueError, "start=-86400 is not a time in seconds (before 1970)"),
    (True, TypeError, "start=True: allowed are an aware datetime or whole seconds"),
    ("1700000000", TypeError, "start='1700000000': allowed are"),
    (None, TypeError, "start=None: allowed are"),
]


@pytest.mark.parametrize(("invalid", "error", "message"), BAD_TIMES)
def test_an_invalid_time_raises_with_its_argument_its_value_and_what_is_allowed(invalid, error, message):
    for make in (seconds, lambda value, _: Span.of(value, NOW), lambda value, _: Span(value, NOW)):
        with pytest.raises(error) as caught:
            make(invalid, "start")
        assert type(caught.value) is error
        assert message in str(caught.value)


def test_an_invalid_end_is_named_end():
    with pytest.raises(TypeError, match=r"^end='now': allowed"):
        Span.of(NOW, "now")


@pytest.mark.parametrize("end", [NOW, NOW - 1])
def test_a_span_must_end_after_its_start(end):
    with pytest.raises(ValueError, match=rf"^end={end} must be after start={NOW}$"):
        Span.of(NOW, end)


def test_the_constructor_of_a_span_accepts_seconds_only():
    with pytest.raises(TypeError, match=r"start=datetime.*Span\.of takes datetimes"):
        Span(datetime(2026, 11, 24, tzinfo=UTC), NOW + 1)


@pytest.mark.parametrize(
    ("duration", "expected"), [(1, 1), (DAY, DAY), (timedelta(hours=8), 28_800), (timedelta(seconds=1.9), 1)]
)
def test_a_duration_is_whole_seconds(duration, expected):
    assert length(duration) == expected


@pytest.mark.parametrize(
    ("invalid", "error", "message"),
    [
        (0, ValueError, "back=0: it must be at least one second"),
        (-5, ValueError, "back=-5: it must be"),
        (timedelta(milliseconds=999), ValueError, "back=.*at least one second"),
        (1.5, TypeError, "back=1.5: allowed are a timedelta or whole seconds as an int"),
        (True, TypeError, "back=True: allowed"),
        ("1h", TypeError, "back='1h': allowed"),
    ],
)
def test_an_invalid_duration_raises(invalid, error, message):
    with pytest.raises(error, match=message):
        length(invalid, "back")


# Properties of a span.


def test_a_span_gives_its_ends_as_seconds_text_and_datetimes():
    span = Span.of(datetime(2026, 11, 24, 12, tzinfo=UTC), datetime(2026, 11, 24, 22, tzinfo=TOKYO))
    start, end = span
    assert (start, end, span.duration) == (NOW, NOW + 3_600, 3_600)
    assert str(span) == "2026-11-24T12:00:00Z..2026-11-24T13:00:00Z"
    assert (span.started_at, span.ended_at) == tuple(datetime(2026, 11, 24, hour, tzinfo=UTC) for hour in (12, 13))
    assert pickle.loads(pickle.dumps(span)) == span
    assert len({span, Span(start, end)}) == 1


def test_a_span_does_not_contain_its_end():
    span = Span(NOW, NOW + 10)
    assert [at in span for at in (NOW - 1, NOW, NOW + 9, NOW + 10)] == [False, True, True, False]
    assert span.started_at in span
    assert span.ended_at not in span


@given(st.one_of(st.none(), st.integers(), st.floats(allow_nan=False)))
@example(99_999_999_999)
def test_the_moment_of_any_number_is_a_datetime_or_none(ts):
    at = moment(ts)
    assert at is None or (at.utcoffset() == timedelta(0) and abs(at.timestamp() - ts) < 1)
    assert is_moment(ts) == (at is not None)


@pytest.mark.parametrize(("ts", "year"), [(None, None), (0, None), (NOW, 2026), (NOW + 0.5, 2026), (NOW * 1000, None)])
def test_the_moment_of_a_missing_or_impossible_time_is_none(ts, year):
    assert (moment(ts) and moment(ts).year) == year


# Slices.


@given(spans, st.integers(1, 60), st.sampled_from([1, 1, WINDOW, 3_600]))
def test_slices_cover_the_span_without_gaps_and_none_is_longer_than_allowed(span, pieces, mark):
    longest = slice_length(span, pieces)
    slices = span.slices(longest, mark)
    assert (slices[0].start, slices[-1].end) == (span.start, span.end)
    assert all(one.end == next_one.start for one, next_one in pairwise(slices))
    assert all(1 <= one.duration <= longest for one in slices)


@given(spans, st.integers(1, 60))
def test_a_span_is_cut_into_as_few_slices_as_possible(span, pieces):
    longest = slice_length(span, pieces)
    assert len(span.slices(longest)) == -(-span.duration // longest)


@given(spans, st.integers(1, 60), st.integers(2, 4_000))
def test_slices_are_cut_at_multiples_of_the_mark_where_possible(span, pieces, mark):
    longest = slice_length(span, pieces)
    cuts = [one.start for one in span.slices(longest, mark)[1:]]
    assert longest < mark or all(at % mark == 0 for at in cuts)


@pytest.mark.parametrize("longest", range(9, 20))
def test_overlapping_slices_contain_every_whole_bucket_at_any_offset(longest):
    bucket = 5
    for start, duration, offset in product(range(bucket), range(1, 60), range(bucket)):
        span = Span(start, start + duration)
        slices = span.overlapping(longest, bucket)
        assert (slices[0].start, slices[-1].end) == tuple(span)
        assert all(1 <= one.duration <= longest for one in slices)
        for begin in range(start + offset, span.end - bucket + 1, bucket):
            last = [one for one in slices if begin in one][-1]
            assert begin + bucket <= last.end, "the last slice with a bucket must contain all of it"


def test_slices_one_second_short_of_three_days_advance_by_two_days():
    slices = Span(0, 13 * DAY).overlapping(3 * DAY - 1, DAY)
    assert [one.start // DAY for one in slices] == [0, 2, 4, 6, 8, 10, 12]


@given(spans, st.integers(1, 2 * 3_600 - 2))
def test_slices_too_short_for_two_buckets_do_not_overlap(span, longest):
    span = Span(span.start, span.start + min(span.duration, 50 * longest))
    assert span.overlapping(longest, 3_600) == span.slices(longest)


@pytest.mark.parametrize("longest", [0, -1])
def test_a_slice_must_be_at_least_one_second_long(longest):
    with pytest.raises(ValueError, match=rf"longest={longest}: allowed are 1 or more"):
        Span(0, 10).slices(longest)


@given(st.integers(0, 200), st.integers(1, 200))
def test_windows_include_the_window_of_the_start_and_exclude_that_of_the_end(start, duration):
    span = Span(start, start + duration)
    inside = {at for at in range(0, 400, WINDOW) if at // WINDOW in range(start // WINDOW, span.end // WINDOW)}
    windows = span.windows()
    assert set(range(*windows, WINDOW) if windows else ()) == inside


# Unions and differences, compared with sets of seconds.

short_spans = st.lists(
    st.builds(lambda start, duration: Span(start, start + duration), st.integers(0, 40), st.integers(1, 15)), max_size=8
)
long_span = st.builds(lambda start, duration: Span(start, start + duration), st.integers(0, 40), st.integers(1, 40))


def seconds_of(*parts: Span) -> set[int]:
    """The seconds that spans cover."""
    return {second for span in parts for second in range(*span)}


def are_separate(parts: tuple[Span, ...]) -> bool:
    """Whether spans are in order and at least a second apart, so that none could be joined."""
    return all(one.end < after.start for one, after in pairwise(parts))


MERGED = [
    ([], ()),
    ([(5, 9)], ((5, 9),)),
    ([(0, 5), (5, 9)], ((0, 9),)),
    ([(0, 5), (6, 9)], ((0, 5), (6, 9))),
    ([(6, 9), (0, 5)], ((0, 5), (6, 9))),
    ([(0, 9), (2, 4)], ((0, 9),)),
    ([(0, 9), (2, 4), (8, 12)], ((0, 12),)),
    ([(2, 4), (2, 9), (2, 3)], ((2, 9),)),
    ([(0, 2), (4, 6), (1, 5)], ((0, 6),)),
]


@pytest.mark.parametrize(("given_spans", "expected"), MERGED)
def test_spans_that_touch_or_overlap_are_merged(given_spans, expected):
    assert tuple(map(tuple, merged(Span(*ends) for ends in given_spans))) == expected


@given(short_spans)
def test_merged_spans_cover_the_same_seconds_with_as_few_spans_as_possible(parts):
    result = merged(parts)
    assert seconds_of(*result) == seconds_of(*parts)
    assert are_separate(result)
    assert merged(result) == result


WITHOUT = [
    ((10, 20), [], ((10, 20),)),
    ((10, 20), [(10, 20)], ()),
    ((10, 20), [(0, 30)], ()),
    ((10, 20), [(0, 10)], ((10, 20),)),
    ((10, 20), [(20, 30)], ((10, 20),)),
    ((10, 20), [(0, 11)], ((11, 20),)),
    ((10, 20), [(19, 30)], ((10, 19),)),
    ((10, 20), [(12, 15)], ((10, 12), (15, 20))),
    ((10, 20), [(12, 13), (15, 16)], ((10, 12), (13, 15), (16, 20))),
    ((10, 20), [(15, 16), (12, 13)], ((10, 12), (13, 15), (16, 20))),
    ((10, 20), [(5, 12), (11, 14), (18, 25)], ((14, 18),)),
    ((10, 20), [(11, 18), (12, 13)], ((10, 11), (18, 20))),
    ((10, 20), [(0, 5), (30, 40)], ((10, 20),)),
    ((10, 20), [(10, 11), (19, 20)], ((11, 19),)),
]


@pytest.mark.parametrize(("span", "others", "expected"), WITHOUT)
def test_without_removes_exactly_the_given_spans(span, others, expected):
    assert tuple(map(tuple, without(Span(*span), *(Span(*ends) for ends in others)))) == expected


@given(long_span, short_spans)
def test_without_keeps_the_seconds_that_no_other_span_covers(span, others):
    left = without(span, *others)
    assert seconds_of(*left) == seconds_of(span) - seconds_of(*others)
    assert are_separate(left)
