"""The judge: takes all events of the streams and all requests of the service, and reports broken promises."""

from __future__ import annotations

import gc
import math
import resource
from collections import Counter, defaultdict
from typing import Any, Final
from urllib.parse import parse_qsl

import attrs

from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import LogEntry, Simulation
from benchmarks.endurance.calls import CallJudge
from benchmarks.endurance.schedule import DAY, Schedule, Trouble
from benchmarks.endurance.truth import Hindrances, Questions
from benchmarks.endurance.windows import WindowJudge

_UNITS: Final = {"qps": 1, "qpm": 60, "qpd": DAY}
_COUNTERS: Final = {
    "realtime_usage": "realtime",
    "realtime_quality": "realtime",
    "call_lists": "call_lists",
    "call_sessions": "call_details",
}
_REFUSALS: Final = {
    "qps": b"qps limit",
    "qpm": b"qpm limit",
    "qpd": b"qpd limit",
    "latency": b"query latency limit",
    "range": b"query time range limit",
    "length": b"query time length limit",
    "credentials": b"Invalid authentication",
}
_ENOUGH: Final = 5
"""Fewest days of a third of the time that is compared with another."""

_GROWTH: Final = 1.25
"""Largest ratio of the last third to the one before."""

_PEOPLE: Final = 0.1 - 0.01
"""Share of the day's detail requests for interactive use, less the few in flight when the rest was spent."""

_TEN_MINUTES: Final = 600
_EARLY: Final = 2
"""Refusals in ten minutes that the rate limiter may cause, which sends at the start of the service's seconds."""

_OK: Final = 200
_LESSONS: Final = 4
"""Answers after which the service's time is known: two of each of two streams."""

_SECONDS: Final = 2
"""Different seconds that these must be dated: answers of the same second may come from a cache."""

_ONCE: Final = 3
"""Refusals of one kind and reason that cannot be avoided, because each stream learns from its own."""


@attrs.frozen
class Daily:
    """Figures of a day: requests by counter, bytes of the checkpoints, objects of the library, memory in MB."""

    requests: dict[str, int]
    checkpoints: tuple[int, int]
    objects: int
    memory: float

    @property
    def checkpoint(self) -> int:
        """Bytes of both checkpoints together."""
        return sum(self.checkpoints)


class Judge:
    """Takes everything; `broken` has some examples of each broken promise."""

    def __init__(self, simulation: Simulation, schedule: Schedule) -> None:
        self._simulation = simulation
        self._schedule = schedule
        self.hindrances = Hindrances(schedule.outages)
        self.questions = Questions()
        self.broken: defaultdict[str, list[str]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.windows = WindowJudge(simulation.world, schedule.begin, self.hindrances, self.questions, self.fault)
        self.calls = CallJudge(simulation, schedule.begin, self.hindrances, self.fault, schedule.seed)
        self.days: list[Daily] = []
        self.deaths: list[str] = []
        self.refusals: Counter[str] = Counter()
        self._requests: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._spent: dict[str, int] = {}
        self._refused: Counter[tuple[str, str, int]] = Counter()
        self._others = simulation.service.variants.others
        self._lessons: list[str | None] = []
        self._last_answer = float(schedule.begin)
        self._slept = math.inf
        self._day = schedule.begin // DAY

    def fault(self, promise: str, how: str) -> None:
        """Record that a promise was broken."""
        self.counts[promise] += 1
        if len(self.broken[promise]) < 5:  # noqa: PLR2004 - examples
            self.broken[promise].append(how)

    def died(self, now: float, error: BaseException | None) -> None:
        """Record that the process ended by itself."""
        self.deaths.append(f"{now:.0f}: {error!r}")
        self.fault("0 deaths", f"{now:.0f}: {error!r}")

    @property
    def ignorant(self) -> bool:
        """Whether the machine slept or the process began, with too few answers since to know the service's time."""
        return len(self._lessons) < _LESSONS or len({*self._lessons}) < _SECONDS

    def slept(self, begun: float, now: float) -> None:
        """Record that the machine slept; without quota it notices that only with its next request.

        When it slept, between the answers before and after, it cannot know.
        """
        self._lessons = []
        self._slept = min(self._slept, self._last_answer)
        late = now - begun if "spent" in self.hindrances.kinds(begun, now) else 0.0
        self.hindrances.add(Trouble("asleep", begun, now))
        if late:
            midnight = (now // DAY + 1) * DAY
            self.hindrances.add(Trouble("asleep", midnight, midnight + late))
            self.hindrances.add(Trouble("spent", midnight, midnight + late))

    def begins(self, now: float) -> None:
        """Record that a process begins."""
        self._lessons = []
        self.windows.lives.append(now)

    def answered(self, request: Request, response: Response, now: float, *, ignorant: bool) -> None:
        """Record an answer; a request that was sent while the time was unknown (`ignorant`) may be refused."""
        # What a gateway says teaches nothing.
        if self.ignorant and response.status == _OK and response.body.startswith(b'{"code"'):
            self._lessons.append(response.headers.get("Date"))
        self._last_answer = now
        if not self.ignorant and self._slept < now:
            self.windows.dozes.append((self._slept, now))
            self._slept = math.inf
        if request.endpoint.name == "call_sessions" and b"Unknown Error" in response.body:
            self.calls.refused.add(dict(parse_qsl(request.query))["call_id"])
        kind = next((kind for kind, said in _REFUSALS.items() if said in response.body), "")
        if not kind:
            return
        counter = self._simulation.service.plan.counter(request.endpoint)
        why = self._excuse_quota(counter, kind, now) if kind in _UNITS else "the time was not known" * ignorant
        self.refusals[f"{kind} {counter}: {why or 'AVOIDABLE'}"] += 1
        if not why:
            self.fault("no refusal that could be avoided", f"{now:.1f} {kind} {request}")

    def look(self, now: float, checkpoints: tuple[str, str]) -> None:
        """Read the service's log and counters, and judge the day if it is over."""
        for entry in self._simulation.service.log:
            self._record(entry)
        self._simulation.service.log.clear()
        self._look_at_quota(now)
        self.windows.judge(now)
        self.calls.judge(now)
        if now // DAY > self._day:
            requests = self._requests.pop(self._day, Counter())
            self._day = int(now // DAY)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            lengths = (len(checkpoints[0]), len(checkpoints[1]))
            self.days.append(Daily(dict(requests), lengths, library_objects(), memory))
            self._judge_share(requests)
            self.questions.forget(now - DAY)

    def close(self, now: float) -> None:
        """Judge what is left, once no more requests are sent."""
        self.hindrances.add(Trouble("down", now, now + DAY))
        self.windows.close(int(now))
        self.calls.close(self._schedule.end, now)
        self._judge_memory()

    def _judge_share(self, requests: Counter[str]) -> None:
        """Check that a tenth of a day's requests for details was left to interactive use."""
        limit = self._simulation.service.plan.rates("call_details")["day"]
        if requests["call_details"] > (1 - _PEOPLE) * limit:
            self.fault("people have a tenth of the details", f"{requests['call_details']} of {limit} were taken")

    def _judge_memory(self) -> None:
        """Compare the last third of the days with the one before: by then everything kept for a week is there."""
        third = len(self.days) // 3
        if third < _ENOUGH:
            return
        before, last = self.days[third:-third], self.days[-third:]
        for what in ("objects", "memory", "checkpoint"):
            most, least = (max(getattr(one, what) for one in days) for days in (last, before))
            if most > _GROWTH * least:
                self.fault("flat memory", f"{what}: {least:,.0f} in the second third, {most:,.0f} in the last")

    def _look_at_quota(self, now: float) -> None:
        """Record until when a counter is used up for the day, if it is."""
        service = self._simulation.service
        day = int(now // DAY)
        for counter in ("realtime", "call_lists"):
            limit = service.plan.rates(counter)["day"]
            if service.spent(counter, "day") >= limit and self._spent.get(counter) != day:
                self._spent[counter] = day
                self.hindrances.add(Trouble("spent", now - 300, (day + 1) * DAY))
                self.refusals[f"days spent: {counter}"] += 1

    def _record(self, entry: LogEntry) -> None:
        counter = _COUNTERS.get(entry.endpoint, "")
        self._requests[int(entry.at // DAY)][counter] += 1

    def _excuse_quota(self, counter: str, kind: str, now: float) -> str:
        """Return why a refusal by a rate limit could not be avoided; empty if it could."""
        unit = _UNITS[kind]
        window = int(now // unit)
        rates = self._simulation.service.plan.rates(counter)
        # The answer may come in the next window already.
        others = sum(
            one.spent(rates["day"], window * unit - unit, now) for one in self._others if one.counter == counter
        )
        self._refused[counter, kind, window] += 1
        if others and self._refused[counter, kind, window] <= _ONCE:
            return "the other program's"
        if kind == "qps":
            # A burst is aimed at the beginning of a second, and may be early: the quota promises few of these.
            self._refused[counter, "early", int(now // _TEN_MINUTES)] += 1
            return "a burst too early" * (self._refused[counter, "early", int(now // _TEN_MINUTES)] <= _EARLY)
        return ""


def library_objects() -> int:
    """Return the number of live objects of the library, without those of the simulator."""
    gc.collect()
    return sum(_ours(type(one)) for one in gc.get_objects())


def _ours(kind: type[Any]) -> bool:
    module = str(kind.__module__)
    return module.startswith("agora_analytics.") and not module.startswith("agora_analytics.simulator")
