"""Two days with every fault at once; `python -m benchmarks.endurance` runs thirty, with ten times the calls."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.streaming import HOUR, MIDNIGHT

from benchmarks.endurance.life import Sink, run
from benchmarks.endurance.schedule import drawn


@pytest.mark.slow
def test_two_days_with_all_faults_break_no_guarantee():
    judge = run(drawn(1, MIDNIGHT, 2, calls=300, calm=4 * HOUR))
    assert judge.broken == {}
    assert judge.windows.seen["Window"] > 6_000
    assert judge.windows.seen["Revision"] > 100
    assert judge.calls.seen["calls judged"] > 500
    assert judge.calls.seen["CallFinished with sessions"] > 500
    assert judge.refusals["days spent: realtime"] == 2


@pytest.mark.slow
def test_the_checker_detects_a_missing_window_and_a_missing_end(monkeypatch):
    seen: Counter[str] = Counter()
    take = Sink.take

    def lossy(sink, at, life, event, source):
        name = type(event).__name__
        seen[name] += 1
        if (name, seen[name]) not in {("Window", 1_000), ("CallFinished", 20)}:
            take(sink, at, life, event, source)

    monkeypatch.setattr(Sink, "take", lossy)
    judge = run(drawn(1, MIDNIGHT, 1, calls=60, calm=4 * HOUR))
    assert judge.counts == {"windows in order, each once": 1, "calls: an end that was not reported": 1}
