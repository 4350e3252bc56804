"""How much of a plan the rate limiter uses: the share of the allowed requests, and refusals, as the service counts.

Every run is ten simulated minutes of a saturated client on virtual time, against the simulator's counters, network and
clocks: each factor at its worst with the others at their defaults, ten mixtures, and other rate limiters in its place.
Those begin a tenth of a second before the service's second changes, as one in ten does by chance. `python -m
benchmarks.quota [--quick | --beside | --rivals]` prints them; it exits with 1 if the rate limiter used less than 99 %
after the first ten seconds, or if any request was refused.

If another clock dates the responses than the one that counts (`date_ahead`), only a refusal can reveal it. So two
events of refusals are allowed there, and 95 % after twenty seconds are enough; the same holds for long ways (`delay`).
`--beside` prints the worst of ten differences between the clocks for each `delay` and `jitter`.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import pairwise, product
from random import Random

import attrs
from aiolimiter import AsyncLimiter

from agora_analytics import AnalyticsClient, Plan, RateLimited
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.simulator import Service, Simulation, Variants, VirtualLoop, World
from agora_analytics.simulator.service.variants import DateStyle

# Not a whole second: nothing may depend on beginning with one.
_START = 1_795_521_600.37
_SECONDS = 600.0
_WARM = 10.0
_LEAST = 0.99
_WARM_BESIDE = 20.0
_LEAST_BESIDE = 0.95
_EVENTS_BESIDE = 2
_ONE_EVENT = 3.0
_WORLD = World(seed=7)

Pace = Callable[[], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Setting:
    """A limit and everything that makes it hard to keep; seconds, but `drift` in seconds per second."""

    limit: int = 10
    unit: Unit = "second"
    jitter: float = 0.12
    outliers: float = 0.01
    wrong: float = 0.0
    drift: float = 0.0
    host_step: float = 0.0
    service_step: float = 0.0
    date: DateStyle = "exact"
    date_ahead: float = 0.0
    delay: float = 0.0
    apart: float = 0.0
    seed: int = 1

    def __str__(self) -> str:
        usual = Setting(limit=self.limit, unit=self.unit, seed=self.seed)
        changed = attrs.asdict(self, filter=lambda field, value: value != getattr(usual, field.name))
        text = ", ".join(f"{name} {value}" for name, value in changed.items())
        return f"{self.limit:>2} a {self.unit}" + (f": {text}" if text else "")


@attrs.frozen(kw_only=True)
class Result:
    """The share of the allowance that was used after the warm-up, all refusals, and the events that they make up."""

    used: float
    refused: int
    events: int


def good(setting: Setting, result: Result) -> bool:
    """Whether a result meets the target."""
    if setting.date_ahead or setting.delay:
        return result.used >= _LEAST_BESIDE and result.events <= _EVENTS_BESIDE
    return result.used >= _LEAST and not result.refused


def run(setting: Setting, pace: Callable[[], Pace] | None = None) -> Result:
    """Run ten minutes with the library's rate limiter, or with another in its place."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_run(setting, pace))


def settings() -> Iterator[Setting]:
    """Yield each factor at its worst with the others at their defaults, and ten mixtures."""
    for unit, limit in (("second", 1), ("second", 3), ("second", 10), ("minute", 3), ("minute", 10)):
        yield Setting(unit=unit, limit=limit)
        yield Setting(unit=unit, limit=limit, jitter=0.3)
    yield Setting(jitter=0.02)
    yield from (Setting(wrong=wrong) for wrong in (5.0, -5.0))
    yield from (Setting(drift=drift) for drift in (2e-4, -2e-4))
    yield from (Setting(host_step=step) for step in (3.0, -3.0))
    yield from (Setting(service_step=step) for step in (0.37, -0.37))
    yield from (Setting(date=date) for date in ("timer", "lazy"))
    yield Setting(apart=0.04)
    yield from (Setting(date_ahead=ahead) for ahead in (0.2, 0.3, -0.7))
    yield Setting(date_ahead=0.3, jitter=0.3)
    yield from (Setting(delay=0.5, jitter=0.3, date_ahead=ahead) for ahead in (0.0, 0.3))
    random = Random(11)  # noqa: S311 - the same mixtures at every run
    for seed in range(10):
        unit, limit = random.choice([("second", 1), ("second", 3), ("second", 10), ("minute", 3), ("minute", 10)])
        yield Setting(
            unit=unit,
            limit=limit,
            jitter=random.choice([0.02, 0.12, 0.3]),
            wrong=random.choice([0.0, 5.0]),
            drift=random.choice([0.0, 2e-4, -2e-4]),
            host_step=random.choice([0.0, 3.0]),
            service_step=random.choice([0.0, 0.37]),
            date=random.choice(["exact", "timer", "lazy"]),
            apart=random.choice([0.0, 0.04]),
            seed=seed,
        )


def beside() -> Iterator[list[Setting]]:
    """Yield every difference between the two clocks, for each limit, `delay` and `jitter`."""
    for unit, limit in (("second", 1), ("second", 3), ("second", 10), ("minute", 3), ("minute", 10)):
        for delay, jitter in product((0.0, 0.5), (0.02, 0.3)):
            usual = Setting(unit=unit, limit=limit, delay=delay, jitter=jitter, outliers=0.0)
            yield [attrs.evolve(usual, date_ahead=step / 10) for step in range(10)]


async def _run(setting: Setting, pace: Callable[[], Pace] | None) -> Result:
    time = asyncio.get_running_loop().time
    random = Random(setting.seed)  # noqa: S311 - the same at every run

    def clock() -> float:
        stepped = setting.service_step if time() > _SECONDS / 2 else 0.0
        return _START + time() * (1 + setting.drift) + stepped + random.choice([-1, 1]) * setting.apart

    def wall() -> float:
        return _START + time() + setting.wrong + (setting.host_step if time() > _SECONDS / 2 else 0.0)

    def way() -> tuple[float, float]:
        late = 0.2 if random.random() < setting.outliers else 0.0
        there, back = random.uniform(0, setting.jitter), random.uniform(0, setting.jitter)
        return setting.delay + there + late, setting.delay + back

    plan = _plan(setting)
    service = Service(
        _WORLD, plan, clock=clock, variants=Variants(date=setting.date, date_ahead=setting.date_ahead), log_size=100_000
    )
    simulation = Simulation(service)
    transport = simulation.transport(latency=way, hosts=1)
    async with simulation.client(
        transport=transport, clock=wall, max_wait=None, plan=plan, quotas=pace is None
    ) as client:
        paced = pace and pace()
        if paced is not None:
            # So that rivals begin shortly before the second changes, which one in ten does by chance.
            await asyncio.sleep(0.9 - _START % 1)
        # Twice the limit, since requests of the second before may still be in flight.
        tasks = [asyncio.create_task(_ask(client, paced)) for _ in range(setting.limit * 2 + 2)]
        await asyncio.sleep(_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return _result(setting, service)


def _plan(setting: Setting) -> Plan:
    rates = {"per_second": None, "per_minute": None, f"per_{setting.unit}": setting.limit, "per_day": 10**6}
    return Plan.of("enterprise").with_limits("realtime", **rates)


async def _ask(client: AnalyticsClient, pace: Pace | None) -> None:
    start = int(_START) - 900
    while True:
        if pace is not None:
            await pace()
        with suppress(RateLimited):
            await client.realtime.usage("userCount", start, start + 20, product="Native")


def _result(setting: Setting, service: Service) -> Result:
    """Count what was accepted in each whole window of the service's clock, after the warm-up."""
    window = WINDOWS[setting.unit]
    accepted = Counter(int(entry.at // window) for entry in service.log if not entry.refused)
    warm = _WARM_BESIDE if setting.date_ahead or setting.delay else _WARM
    first = math.ceil((_START + warm) / window)
    last = int((_START + _SECONDS * (1 + setting.drift) + setting.service_step) // window)
    windows = range(first, last)
    allowed = len(windows) * setting.limit
    refused = [entry.at for entry in service.log if entry.refused]
    return Result(
        used=sum(accepted[number] for number in windows) / allowed, refused=len(refused), events=_events(refused)
    )


def _events(refused: list[float]) -> int:
    """Count refusals within three seconds of the one before as one event."""
    return sum(at - before > _ONE_EVENT for before, at in pairwise([-math.inf, *sorted(refused)]))


def _rivals(limit: int) -> dict[str, Callable[[], Pace]]:
    """Return rate limiters that do not know the service's clock."""
    return {
        f"AsyncLimiter({limit}, 1)": lambda: _limiter(limit, 1.0),
        f"AsyncLimiter(1, {1 / limit:g})": lambda: _limiter(1, 1 / limit),
        "sliding log": lambda: _sliding_log(limit, 0.0),
        "sliding log, 0.31 s apart": lambda: _sliding_log(limit, 0.31),
    }


def _limiter(rate: int, period: float) -> Pace:
    return AsyncLimiter(rate, period).acquire


def _sliding_log(limit: int, guard: float) -> Pace:
    """Allow at most `limit` requests in any second plus `guard`, by when they were sent."""
    sent: deque[float] = deque([-math.inf] * limit, limit)

    async def pace() -> None:
        now = asyncio.get_running_loop().time()
        turn = max(now, sent[0] + 1 + guard)
        sent.append(turn)
        await asyncio.sleep(turn - now)

    return pace


def main() -> int:
    """Run and print everything, and return the exit code."""
    if "--beside" in sys.argv[1:]:
        return _main_beside()
    chosen = list(settings())
    missed = 0
    most = 0 if "--rivals" in sys.argv[1:] else 4 if "--quick" in sys.argv[1:] else len(chosen)
    for setting in chosen[:most]:
        result = run(setting)
        met = good(setting, result)
        missed += not met
        _tell("quota core", setting, result, "met" if met else "MISSED")
    for setting in (Setting(), Setting(jitter=0.02), Setting(jitter=0.3)):
        for name, rival in _rivals(setting.limit).items():
            _tell(name, setting, run(setting, rival))
    return 1 if missed else 0


def _main_beside() -> int:
    """Print the least share and the most events of refusals among all differences between the clocks."""
    missed = 0
    for several in beside():
        results = [run(setting) for setting in several]
        bad = sum(not good(*one) for one in zip(several, results, strict=True))
        missed += bad
        used, events = min(one.used for one in results), max(one.events for one in results)
        text = (
            f"least {used:7.2%}, mean {sum(one.used for one in results) / len(results):7.2%}, at most {events} events"
        )
        print(f"{several[0]!s:60} {text}  {f'MISSED {bad}' if bad else 'met'}", flush=True)
    return 1 if missed else 0


def _tell(name: str, setting: Setting, result: Result, verdict: str = "") -> None:
    print(f"{name:26} {setting!s:78} {result.used:8.2%} {result.refused:5} refused  {verdict}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
