"""Metric samples of a session: which metric IDs it has, and their samples about every 2 seconds.

Samples are drawn in tiles of 10 minutes, each with its own generator: any part of a track can be computed alone.
A track is one metric of one session: about the user itself, or about one of the peers that it receives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agora_analytics.catalogue import MetricId, Product
from agora_analytics.simulator.world.entities import SimulatedSession
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.simulator.world.rng import fraction, rng_for

if TYPE_CHECKING:
    from random import Random


_TILE = 600
_STEP = 2
_MAX_PEERS = 3
"""Peers that each user of this world receives at most."""
_LOST_FRACTION = 0.02
_FREEZES = frozenset({MetricId.AUDIO_FREEZE_TIME, MetricId.VIDEO_FREEZE_TIME})

_M = MetricId
_OWN = (_M.APP_CPU, _M.SYSTEM_CPU, _M.TASK_DELAY, _M.ROUTER_RTT, _M.APP_MEMORY, _M.SYSTEM_MEMORY)
_SENT_AUDIO = (_M.AUDIO_UP_BITRATE, _M.AUDIO_UP_LOSS, _M.AUDIO_SENT_VOLUME)
_SENT_VIDEO = (
    _M.VIDEO_CAPTURE_FPS, _M.VIDEO_HIGH_UP_FPS, _M.VIDEO_UP_BITRATE, _M.VIDEO_UP_LOSS, _M.VIDEO_SENT_WIDTH,
    _M.VIDEO_SENT_HEIGHT, _M.VIDEO_LOW_UP_BITRATE, _M.VIDEO_LOW_UP_FPS, _M.VIDEO_LOW_SENT_WIDTH,
    _M.VIDEO_LOW_SENT_HEIGHT,
)  # fmt: skip
_HEARD = (_M.AUDIO_DOWN_BITRATE, _M.AUDIO_FREEZE_TIME, _M.AUDIO_END_TO_END_LOSS, _M.AUDIO_PLAYED_VOLUME)
_SEEN = (
    _M.VIDEO_HIGH_DOWN_BITRATE, _M.VIDEO_HIGH_DOWN_FPS, _M.VIDEO_FREEZE_TIME, _M.VIDEO_END_TO_END_LOSS,
    _M.VIDEO_RECEIVED_WIDTH, _M.VIDEO_RECEIVED_HEIGHT, _M.VIDEO_LOW_DOWN_BITRATE, _M.VIDEO_LOW_DOWN_FPS,
    _M.VIDEO_LOW_RECEIVED_WIDTH, _M.VIDEO_LOW_RECEIVED_HEIGHT,
)  # fmt: skip
_WEB = (_M.WEB_VIDEO_DOWN_LOSS, _M.WEB_AUDIO_UP_LOSS, _M.WEB_VIDEO_UP_LOSS)
_TYPICAL = {"%": 12.0, "Kbps": 310.0, "fps": 15.0, "px": 0.0, "ms": 18.0, "dB": 88.0, "": 1.5}
_WIDTHS = (360, 640, 960, 1_280)


def tracks(sessions: Iterable[SimulatedSession], session: SimulatedSession) -> tuple[tuple[int, int], ...]:
    """Return a session's pairs of metric ID and peer's user ID (0: its own); empty if it was not measured."""
    if not session.measured:
        return ()
    own = [(int(mid), 0) for mid in _own(session)]
    heard = _HEARD + (_SEEN if session.video else ())
    return (*own, *((int(mid), peer) for peer in _peers(sessions, session) for mid in heard))


def _own(session: SimulatedSession) -> tuple[MetricId, ...]:
    mids: tuple[MetricId, ...] = _WEB if session.profile.product is Product.WEBRTC else _OWN
    # Clients have to pass on ids that the reference does not list.
    if session.profile.sdk.startswith("3.0"):
        mids = (*mids, _M.RETIRED_20013)
    if session.speaker:
        mids += _SENT_AUDIO + (_SENT_VIDEO if session.video else ())
    return mids


def _peers(sessions: Iterable[SimulatedSession], session: SimulatedSession) -> list[int]:
    """Return the user IDs of the first few speakers that a session overlaps, each once."""
    met = (
        other.uid
        for other in sessions
        if other.speaker and other.uid != session.uid and other.overlaps(session.join, session.leave)
    )
    return list(dict.fromkeys(met))[:_MAX_PEERS]


def samples(
    world: WorldParameters, session: SimulatedSession, track: tuple[int, int], start: int, end: int
) -> list[tuple[int, int | float]]:
    """Return samples in `[start, end)`, oldest first; single samples and spans of half a minute are missing."""
    mid, peer = track
    start, end = max(start, session.join), min(end, session.leave)
    base = _base(world, session, mid, peer)
    drawn: list[tuple[int, int | float]] = []
    for tile in range(start // _TILE, -(-end // _TILE)):
        rng = rng_for(world.seed, session.sid, mid, peer, tile)
        # From the session's first second on: at even or at odd seconds. Tiles keep that, since `_STEP` divides `_TILE`.
        seconds = range(tile * _TILE + session.join % _STEP, min((tile + 1) * _TILE, end), _STEP)
        drawn += _drawn(rng, seconds, start, mid, base)
    return drawn


def _base(world: WorldParameters, session: SimulatedSession, mid: int, peer: int) -> float:
    """Return the value around which a track's samples vary."""
    known = MetricId(mid)
    luck = fraction(world.seed, session.sid, mid, peer)
    if known.unit == "px":
        width = _WIDTHS[int(luck * len(_WIDTHS))]
        return width if known.name.endswith("WIDTH") else width * 9 // 16
    # From the session's own rate, so that metrics and freeze rates tell the same story.
    if known in _FREEZES:
        return (session.audio_freeze if known is _M.AUDIO_FREEZE_TIME else session.video_freeze) or 0.0
    return _TYPICAL[known.unit] * (0.5 + luck)


def _drawn(rng: Random, seconds: range, start: int, mid: int, base: float) -> Iterable[tuple[int, int | float]]:
    """Yield the samples of a tile from `start` on; earlier ones are drawn too, to keep the generator in step."""
    first = seconds.start // _TILE * _TILE
    # Mostly outside of the tile, so that about one tile in four has a hole.
    hole = first + rng.randrange(_TILE * 4)
    unit = MetricId(mid).unit
    draw = rng.random
    for second in seconds:
        luck, value = draw(), draw()
        if second >= start and luck >= _LOST_FRACTION and not hole <= second < hole + 30:
            yield second, _value(mid, unit, base, value)


def _value(mid: int, unit: str, base: float, luck: float) -> int | float:
    if mid in _FREEZES:
        return round(200 + 1_800 * luck / base, 2) if luck < base else 0
    if unit == "px":
        return int(base)
    moved = base * (0.85 + 0.3 * luck)
    return int(moved) if unit in {"Kbps", "fps", "dB"} else round(moved, 2)
