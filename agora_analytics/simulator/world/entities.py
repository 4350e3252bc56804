"""What happens in a simulated world: calls, sessions and incidents, as they are and not as the service tells them.

All times are whole UTC seconds. A call's end is known here even while it lies in the future.
"""

from __future__ import annotations

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator.service import settings
from agora_analytics.simulator.world.population import Profile


@attrs.frozen
class SimulatedCall:
    """One call, in use from `created` until `destroyed`.

    `users` is the number of different users; `rejoins` of them leave and come back as a second session; `recorded`
    adds a server user; `video` is false for an audio-only call.
    """

    call_id: str
    cname: str
    created: int
    destroyed: int
    users: int
    rejoins: int
    recorded: bool
    video: bool

    @property
    def duration(self) -> int:
        """Seconds, at least 1."""
        return self.destroyed - self.created


@attrs.frozen
class SimulatedSession:
    """One stay of one user in a call, from `join` until `leave`; `server` marks the vendor's own Linux users.

    Freeze rates are fractions; there is none of audio on the web, and none of video in an audio-only call.
    `measured` is false for the few sessions of which the service has no metrics.
    """

    sid: str
    cname: str
    uid: int
    account: str | None
    profile: Profile
    roles: tuple[str, ...]
    speaker: bool
    video: bool
    server: bool
    join: int
    leave: int
    audio_freeze: float | None
    video_freeze: float | None
    measured: bool

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any of it lies in `[start, end)`."""
        return self.join < end and self.leave > start


@attrs.frozen
class Incident:
    """A time in which quality was bad: `severity` in (0, 1], for one country or (None) for all."""

    start: int
    end: int
    severity: float
    country: str | None


@attrs.frozen
class CallChange:
    """From `at` on (UTC seconds) the service tells something else of one call.

    Attributes:
        deleted: it knows nothing of the call any more: lists lack it and details are refused.
        endless: the call does not end, and neither do the sessions that ended with it.
        moved: seconds by which `created_ts` is later (negative: earlier); always before the call's end.

    """

    call_id: str
    at: float = float("-inf")
    deleted: bool = attrs.field(default=False, kw_only=True)
    endless: bool = attrs.field(default=False, kw_only=True)
    moved: int = attrs.field(default=0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, call_id=validation.non_empty_str, at=settings.moment, moved=settings.whole)
        validation.apply_rules(self, deleted=validation.boolean, endless=validation.boolean)
