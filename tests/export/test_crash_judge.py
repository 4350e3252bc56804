"""The crash benchmark counts duplicate, lost and unexpected rows, and repeated requests correctly."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.crashes import counting
from benchmarks.crashes.rows import Found, compared

TRUTH = {"calls": Counter({("a",): 1, ("b",): 2})}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["a", "b", "b"], Found(3, 3)),
        (["a", "b", "b", "b"], Found(3, 4, doubled=1)),
        (["a", "b"], Found(3, 2, lost=1)),
        (["a", "b", "b", "c"], Found(3, 4, strange=1)),
        (["b", "b", "b", "c"], Found(3, 4, doubled=1, lost=1, strange=1)),
    ],
)
def test_duplicate_lost_and_unexpected_rows_are_counted(rows, expected):
    found = compared(TRUTH, {"calls": Counter((row,) for row in rows)})
    assert found == expected
    assert bool(found) is (found.found == found.true and not found.strange)


def test_a_request_is_repeated_if_an_earlier_run_received_its_answer():
    counter = counting.Counter()
    first, unanswered = (counter.note(("GET", f"/{name}", b"")) for name in ("first", "unanswered"))
    first.answered = 5.0
    counter.end_run()
    counter.ends[0] = 7.0
    counter.note(unanswered.what)
    counter.note(first.what)
    assert counter.again() == [2.0]
    assert counter.again(but="first") == []
