"""What happens to the service, the machine and the process on each day, drawn from a seed beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import attrs

from agora_analytics.simulator import Fault, Faults, OtherProgram, Variants
from agora_analytics.simulator.fault_schedule import Arrival
from agora_analytics.simulator.world.rng import fraction

DAY: Final = 86_400
LATE: Final = 180
"""Seconds by which windows and calls may be late, or revised."""

Kind = Literal["outage", "asleep", "down", "spent"]

_FAULTS: Final = (
    Fault("status", status=500),
    Fault("status", status=503),
    Fault("html"),
    Fault("html", status=200),
    Fault("busy"),
    Fault("garbage"),
    Fault("refused"),
    Fault("reset"),
    Fault("reset_after"),
    Fault("cut"),
    Fault("slow", seconds=4),
    Fault("slow", seconds=90),
    Fault("huge"),
    Fault("bomb"),
    Fault("refusal", code=500, message="Unknown Error"),
)
_OUTAGES: Final = (
    Fault("refused"),
    Fault("html"),
    Fault("status", status=503),
    Fault("slow", seconds=90),
    Fault("reset_after"),
)
_REFUSALS: Final = (
    Fault("refusal", code=403, message="forbidden"),
    Fault("refusal", code=400, message="bad"),
    Fault("status", status=410),
    Fault("status", status=404),
)


@attrs.frozen
class Trouble:
    """A time in which a stream can send no requests, in UTC seconds, and why."""

    kind: Kind
    start: float
    end: float
    fault: Fault | None = None


@attrs.frozen
class Step:
    """The host's clock is set wrong at a moment, by some seconds."""

    at: float
    wrong: float


@attrs.frozen
class Schedule:
    """Everything that happens from `begin` on, and at last `calm` seconds without accidents; see `drawn`."""

    seed: int
    begin: int
    days: int
    outages: tuple[Trouble, ...]
    sleeps: tuple[Trouble, ...]
    restarts: tuple[Trouble, ...]
    steps: tuple[Step, ...]
    dates: tuple[Step, ...]
    calls: int
    calm: int

    @property
    def end(self) -> int:
        """When the accidents are over."""
        return self.begin + self.days * DAY

    @property
    def stop(self) -> int:
        """When the streams are stopped."""
        return self.end + self.calm

    def faults(self) -> Faults:
        """Return the faults of the whole time, outages first."""
        outages = Faults((_Outages(self.outages),))
        chance = Faults.chance(0.05, _FAULTS, seed=self.seed)
        days = Faults((_Until(self.end, (Faults((_WrongDates(self.dates),)), chance)),))
        return outages + Faults((RefusedCalls(self.seed),)) + days

    def variants(self) -> Variants:
        """Return how the service behaves: rows in random order, late and revised ones, calls that change."""
        others = [OtherProgram(counter=name, end=self.end) for name in ("realtime", "call_lists", "call_details")]
        return Variants(
            unfinished_end="last_seen",
            late_windows=0.05,
            revised_windows=0.05,
            late_by=LATE,
            late_calls=0.03,
            shuffled_rows=True,
            whole_seconds=False,
            date="lazy",
            deleted_calls=0.01,
            endless_calls=0.001,
            moved_calls=0.01,
            calls_overlap=self.seed % 2 == 0,
            others=others,
        )


def drawn(seed: int, begin: int, days: int, *, calls: int = 3_000, calm: int = 36_000) -> Schedule:
    """Draw a schedule: on each day an outage or two, a sleep, a restart, a wrong host clock, and a wrong `Date`.

    There are `calls` a day, and in the last `calm` seconds the remaining events come.
    """
    whole = range(days)
    outages = [one for day in whole for one in _outages(seed, begin, day)]
    return Schedule(
        seed=seed,
        begin=begin,
        days=days,
        outages=tuple(outages),
        sleeps=tuple(_one("asleep", seed, begin, day, (600, 10_800)) for day in whole),
        # Shorter than the 40 minutes for which the plan keeps windows, mostly: longer ones lose some.
        restarts=tuple(_one("down", seed, begin, day, (1, 3_000)) for day in whole),
        steps=tuple(Step(_moment("step", seed, begin, day), _off(seed, "step", day, 7_200)) for day in whole),
        calls=calls,
        calm=calm,
        dates=tuple(Step(_moment("date", seed, begin, day), _off(seed, "date", day, 40 * DAY)) for day in whole),
    )


def _outages(seed: int, begin: int, day: int) -> Iterator[Trouble]:
    for number in range(1 + (fraction(seed, "second", day) < 0.3)):  # noqa: PLR2004 - a share
        found = _one("outage", seed, begin, day, (300, 21_600), number=number)
        yield attrs.evolve(found, fault=_OUTAGES[int(fraction(seed, "kind", day, number) * len(_OUTAGES))])


def _one(kind: Kind, seed: int, begin: int, day: int, lengths: tuple[int, int], *, number: int = 0) -> Trouble:
    """Draw a time of trouble; its length is distributed evenly on a logarithmic scale."""
    shortest, longest = lengths
    start = _moment(kind, seed, begin, day, number)
    return Trouble(kind, start, start + shortest * (longest / shortest) ** fraction(seed, kind, "length", day, number))


def _moment(what: str, seed: int, begin: int, day: int, number: int = 0) -> float:
    """Draw a moment in the first 93 % of a day."""
    # Not in the last part, so that a trouble mostly ends on its day.
    return begin + day * DAY + 300 + int(fraction(seed, what, day, number) * 0.93 * DAY)


def _off(seed: int, what: str, day: int, most: int) -> float:
    """Draw seconds to either side, distributed evenly on a logarithmic scale."""
    size = most ** fraction(seed, what, "off", day)
    return round(60 + size if fraction(seed, what, "side", day) < 0.5 else -60 - size)  # noqa: PLR2004 - half of them


@attrs.frozen
class _Outages:
    """One rule for many outages; each request is only compared with the next one."""

    troubles: tuple[Trouble, ...]

    def strike(self, arrival: Arrival) -> Fault | None:
        return next((one.fault for one in self.troubles if one.start <= arrival.now < one.end), None)


@attrs.frozen
class _Until:
    """Rules that strike until a moment."""

    end: float
    rules: tuple[Faults, ...]

    def strike(self, arrival: Arrival) -> Fault | None:
        struck = (rule.strike(arrival) for rule in self.rules) if arrival.now < self.end else ()
        return next((fault for fault in struck if fault), None)


@attrs.define
class _WrongDates:
    """The first request after each moment is answered with a wrong date."""

    steps: tuple[Step, ...]
    done: int = 0

    def strike(self, arrival: Arrival) -> Fault | None:
        if self.done == len(self.steps) or arrival.now < self.steps[self.done].at:
            return None
        self.done += 1
        return Fault("date", date_off=self.steps[self.done - 1].wrong)


@attrs.frozen
class RefusedCalls:
    """Every request for the details of a few calls is refused, in one of many ways."""

    seed: int
    part: float = 0.003

    def of(self, call_id: str) -> Fault | None:
        """Return how the details of a call are refused."""
        if fraction(self.seed, "refused", call_id) >= self.part:
            return None
        return _REFUSALS[int(fraction(self.seed, "how", call_id) * len(_REFUSALS))]

    def strike(self, arrival: Arrival) -> Fault | None:
        """Return the fault that hits a request, or None."""
        if arrival.endpoint != "call_sessions" or arrival.request is None:
            return None
        params: Mapping[str, object] = arrival.request.params
        return self.of(str(params.get("call_id", "")))
