"""A few hundred responses that no service should send; `python -m benchmarks.fuzz` tries a million, and larger ones."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random

import attrs
import pytest

from agora_analytics import AgoraError
from agora_analytics.models import Point
from agora_analytics.protocols import Response
from benchmarks.fuzz.doors import DOORS
from benchmarks.fuzz.judge import ERRORS, SHORT, TIME, VALUES, Judge
from benchmarks.fuzz.mutations import mutated
from benchmarks.fuzz.tally import look_at_mutations


def judge(door, response=None):
    async def run():
        return await Judge().look(door, response or Response(200, {}, json.dumps(door.answer).encode()), thorough=True)

    return asyncio.run(run())


def door_that_calls(ask):
    return attrs.evolve(DOORS[0], ask=ask)


@pytest.mark.parametrize("bodies", [600, pytest.param(3_000, marks=pytest.mark.slow)])
def test_mutated_bodies_break_no_promise(bodies):
    tally = look_at_mutations(1, range(bodies))
    # Time is checked by the benchmark only: a busy machine takes longer.
    assert {kind.promise for kind in tally.broken} <= {TIME}
    assert tally.bodies == bodies


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_each_door_accepts_its_own_valid_response(door):
    verdict = judge(door)
    assert (verdict.outcome, verdict.broken) == ("answered", None)


def test_the_same_seed_makes_the_same_mutation():
    def mutations():
        return [mutated(Random(number)) for number in range(200)]

    assert [(door.name, response) for door, response in mutations()] == [
        (door.name, response) for door, response in mutations()
    ]


def test_the_judge_reports_an_undocumented_error():
    async def ask(_):
        raise RecursionError("too deep")

    assert judge(door_that_calls(ask)).broken.promise == ERRORS


@pytest.mark.parametrize("text", ["x" * 2_000, "two\nlines", "a bell\x07", "half an emoji \ud83d"])
def test_the_judge_reports_an_error_that_is_long_or_not_printable(text):
    async def ask(_):
        raise AgoraError(text)

    assert judge(door_that_calls(ask)).broken.promise == SHORT


@pytest.mark.parametrize("value", [2**70, float("nan"), float("inf"), "\ud800"])
def test_the_judge_reports_a_value_of_the_wrong_type(value):
    async def ask(_):
        return (Point.of(1, value),)

    assert judge(door_that_calls(ask)).broken.promise == VALUES


def test_the_judge_reports_decoding_that_takes_too_long():
    async def ask(_):
        started = time.process_time()
        while time.process_time() - started < 0.1:
            pass
        return ()

    verdict = judge(door_that_calls(ask))
    assert verdict.broken.promise == TIME
    assert verdict.share > 1
