"""The results for many bodies, with the shortest example of each broken promise."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Final

import attrs

from agora_analytics.protocols import Response
from benchmarks.fuzz.doors import DOORS, Door
from benchmarks.fuzz.judge import TIME, Broken, Judge, Verdict
from benchmarks.fuzz.monsters import monsters
from benchmarks.fuzz.mutations import mutated

# Pickling and tracing take longer than reading: a sample is enough to find a kind of break.
_THOROUGH: Final = 50
"""One of this many bodies is checked thoroughly."""

_MUTATION: Final = "mutation"
_SHOWN: Final = 300
_TRIES: Final = 500


@attrs.frozen
class Kind:
    """The key of breaks that count as equal."""

    promise: str
    place: str


@attrs.define
class Example:
    """The shortest body that broke a promise in one way, and how many bodies did."""

    name: str
    door: str
    response: Response
    what: str
    count: int = 1

    def merge(self, other: Example) -> Example:
        """Return the shorter example, with the counts of both."""
        shorter = min(self, other, key=lambda one: len(one.response.body))
        return attrs.evolve(shorter, count=self.count + other.count)


@attrs.define
class Tally:
    """Counts of results by endpoint, and what was broken."""

    bodies: int = 0
    bytes: int = 0
    memory: int = 0
    outcomes: dict[str, Counter[str]] = attrs.field(factory=lambda: {door.name: Counter() for door in DOORS})
    slowest: dict[str, float] = attrs.field(factory=lambda: {door.name: 0.0 for door in DOORS})
    broken: dict[Kind, Example] = attrs.field(factory=dict)

    def note(self, door: Door, name: str, response: Response, verdict: Verdict) -> None:
        """Count a body."""
        self.bodies += 1
        self.bytes += len(response.body)
        self.outcomes[door.name][verdict.outcome] += 1
        self.slowest[door.name] = max(self.slowest[door.name], verdict.share)
        if verdict.broken is not None:
            kind = _kind(verdict.broken, name)
            self._keep(kind, Example(name, door.name, response, verdict.broken.what))

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.bodies += other.bodies
        self.bytes += other.bytes
        self.memory = max(self.memory, other.memory)
        for door, counts in other.outcomes.items():
            self.outcomes[door] += counts
            self.slowest[door] = max(self.slowest[door], other.slowest[door])
        for kind, example in other.broken.items():
            self._keep(kind, example)

    def _keep(self, kind: Kind, example: Example) -> None:
        known = self.broken.get(kind)
        self.broken[kind] = example if known is None else known.merge(example)


def look_at_mutations(seed: int, numbers: range) -> Tally:
    """Check the mutated bodies of these numbers."""
    return asyncio.run(_look((*_mutation(seed, number), number % _THOROUGH == 0) for number in numbers))


def look_at_monsters(door: int) -> Tally:
    """Check all monsters at the endpoint of this number."""
    here = DOORS[door]
    return asyncio.run(_look((here, name, Response(status, {}, body), True) for name, status, body in monsters(here)))


def _mutation(seed: int, number: int) -> tuple[Door, str, Response]:
    door, response = mutated(Random(seed << 32 | number))  # noqa: S311 - to be had again
    return door, f"{_MUTATION} {number}", response


async def _look(bodies: Iterable[tuple[Door, str, Response, bool]]) -> Tally:
    tally, judge = Tally(), Judge()
    for door, name, response, thorough in bodies:
        tally.note(door, name, response, await judge.look(door, response, thorough=thorough))
    tally.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    return tally


def _kind(broken: Broken, name: str) -> Kind:
    """Return the key of a break; monsters have one for each name."""
    return Kind(broken.promise, broken.place or (_MUTATION if name.startswith(_MUTATION) else name))


async def shortened(kind: Kind, example: Example) -> str:
    """Return a body as a Python literal, without what is not needed for the break."""
    body = example.response.body
    if kind.promise != TIME and len(body) <= 2**15:
        body = await _shrunk(kind, example)
    text = repr(body[:_SHOWN])
    return text if len(body) <= _SHOWN else f"{text} … {len(body):,} bytes"


async def _shrunk(kind: Kind, example: Example) -> bytes:
    judge, door = Judge(), next(door for door in DOORS if door.name == example.door)
    body, step, tries = example.response.body, len(example.response.body) // 2, 0
    while step and tries < _TRIES:
        at, before = 0, body
        while at < len(body) and tries < _TRIES:
            tries += 1
            shorter = body[:at] + body[at + step :]
            verdict = await judge.look(door, attrs.evolve(example.response, body=shorter), thorough=True)
            if verdict.broken is not None and _kind(verdict.broken, example.name) == kind:
                body = shorter
            else:
                at += step
        step = step // 2 if body == before or step > 1 else 1
        step = min(step, len(body))
    return body
