"""The participants of a call: its sessions, drawn with a generator seeded by the call's ID."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from agora_analytics.catalogue import Product
from agora_analytics.simulator.world import calls
from agora_analytics.simulator.world.entities import SimulatedCall, SimulatedSession
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.simulator.world.population import SERVER_DEVICE, Profile, pick
from agora_analytics.simulator.world.rng import rng_for, token

_REJOIN_GAP = (20, 45)
"""Range of seconds for which a user who rejoins was away."""
_MAX_FREEZE_RATE = 0.6
_UNMEASURED_FRACTION = 0.04


@lru_cache(maxsize=2_048)
def sessions(world: WorldParameters, call: SimulatedCall) -> tuple[SimulatedSession, ...]:
    """Return all sessions of a call, ordered by time of joining; the first user stays for the whole call."""
    rng = rng_for(world.seed, "sessions", call.call_id)
    drawn: list[SimulatedSession] = []
    for number in range(call.users):
        drawn += _user(world, rng, call, number)
    if call.recorded:
        drawn.append(_recorder(rng, call))
    return tuple(sorted(drawn, key=lambda session: (session.join, session.sid)))


def _user(world: WorldParameters, rng: Random, call: SimulatedCall, number: int) -> list[SimulatedSession]:
    profile = pick(rng, world.web_share)
    uid = rng.randrange(1, 2**32)  # above 2**31, too: user IDs are unsigned, and overflow a signed 32-bit column
    account = f"user_{uid % 100_000}" if rng.random() < 0.3 else None  # noqa: PLR2004 - a share
    # At least one, so that the others have somebody to receive.
    speaker = number == 0 or rng.random() < 0.6  # noqa: PLR2004 - a share
    bad = calls.severity(world, call.created, profile.country)
    return [
        SimulatedSession(
            sid=token(world.seed, call.call_id, number, join),
            cname=call.cname,
            uid=uid,
            account=account,
            profile=profile,
            roles=_roles(rng, speaker=speaker),
            speaker=speaker,
            video=call.video,
            server=False,
            join=join,
            leave=leave,
            audio_freeze=None if profile.product is Product.WEBRTC else _freeze(rng, bad),
            video_freeze=_freeze(rng, bad) if call.video else None,
            measured=rng.random() >= _UNMEASURED_FRACTION,
        )
        for join, leave in _intervals(rng, call, number)
    ]


def _intervals(rng: Random, call: SimulatedCall, number: int) -> list[tuple[int, int]]:
    """Return a user's times of joining and leaving: one pair, or two for a user who rejoins."""
    # So that a call begins and ends with a session, as the service defines it.
    if number == 0:
        return [(call.created, call.destroyed)]
    if number <= call.rejoins:
        middle = call.created + int(call.duration * rng.uniform(0.3, 0.6))
        return [(call.created + rng.randint(1, 30), middle), (middle + rng.randint(*_REJOIN_GAP), call.destroyed)]
    # Squared, because most users join early.
    join = call.created + int(call.duration * 0.7 * rng.random() ** 2)
    return [(join, join + max(1, int((call.destroyed - join) * rng.uniform(0.3, 1.0))))]


def _freeze(rng: Random, bad: float) -> float:
    """Draw a freeze rate: 0 for half of the sessions, higher during incidents."""
    rate = rng.expovariate(50) if rng.random() < 0.5 + bad / 2 else 0.0
    return round(min(_MAX_FREEZE_RATE, rate * (1 + 10 * bad)), 4)


def _roles(rng: Random, *, speaker: bool) -> tuple[str, ...]:
    if not speaker:
        return ("Audience",)
    return ("Host", "Screen Share") if rng.random() < 0.15 else ("Host",)  # noqa: PLR2004 - a share


def _recorder(rng: Random, call: SimulatedCall) -> SimulatedSession:
    profile = Profile(Product.NATIVE, "United States", "California", "LAN", "Linux", SERVER_DEVICE, "2.3.3.150")
    return SimulatedSession(
        sid=token(call.call_id, "recorder"),
        cname=call.cname,
        uid=rng.randrange(1, 2**32),
        account=None,
        profile=profile,
        roles=("Cloud Recording",),
        speaker=False,
        video=call.video,
        server=True,
        join=call.created + min(3, call.duration - 1),
        leave=call.destroyed,
        audio_freeze=0.0,
        video_freeze=0.0 if call.video else None,
        measured=False,
    )
