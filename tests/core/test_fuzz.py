"""Some hundred answers that no service should send; `python -m benchmarks.fuzz` has a million, and larger ones."""

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


def looked(door, response=None):
    async def look():
        return await Judge().look(door, response or Response(200, {}, json.dumps(door.answer).encode()), thorough=True)

    return asyncio.run(look())


def through(ask):
    return attrs.evolve(DOORS[0], ask=ask)


@pytest.mark.parametrize("bodies", [600, pytest.param(3_000, marks=pytest.mark.slow)])
def test_bodies_that_went_wrong_break_no_promise(bodies):
    tally = look_at_mutations(1, range(bodies))
    # How long it takes is the benchmark's: a busy machine makes it longer.
    assert {kind.promise for kind in tally.broken} <= {TIME}
    assert tally.bodies == bodies


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_each_door_is_opened_by_its_own_answer(door):
    verdict = looked(door)
    assert (verdict.outcome, verdict.broken) == ("answered", None)


def test_a_mutation_can_be_had_again():
    def made():
        return [mutated(Random(number)) for number in range(200)]

    assert [(door.name, response) for door, response in made()] == [(door.name, response) for door, response in made()]


def test_the_judge_hears_an_error_that_is_not_documented():
    async def ask(_):
        raise RecursionError("too deep")

    assert looked(through(ask)).broken.promise == ERRORS


@pytest.mark.parametrize("text", ["x" * 2_000, "two\nlines", "a bell\x07", "half an emoji \ud83d"])
def test_the_judge_hears_an_error_that_cannot_be_shown(text):
    async def ask(_):
        raise AgoraError(text)

    assert looked(through(ask)).broken.promise == SHORT


@pytest.mark.parametrize("value", [2**70, float("nan"), float("inf"), "\ud800"])
def test_the_judge_sees_a_value_that_is_not_of_its_kind(value):
    async def ask(_):
        return (Point.of(1, value),)

    assert looked(through(ask)).broken.promise == VALUES


def test_the_judge_measures_what_takes_too_long():
    async def ask(_):
        begun = time.process_time()
        while time.process_time() - begun < 0.1:
            pass
        return ()

    verdict = looked(through(ask))
    assert verdict.broken.promise == TIME
    assert verdict.share > 1
