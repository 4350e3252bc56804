"""The entities of a simulated world: calls, sessions and incidents as they happen, not as the service reports them.

All times are whole UTC seconds. A call's end is known here even if it is in the future.
"""

from __future__ import annotations

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator import validators
from agora_analytics.simulator.world.population import Profile


@attrs.frozen
class SimulatedCall:
    """One call, from `created` until `destroyed`.

    Attributes:
        call_id: 32 hexadecimal digits.
        cname: channel name; several calls may have the same.
        created, destroyed: UTC seconds.
        users: number of distinct users.
        rejoins: how many of them leave and come back, which makes a second session.
        recorded: whether a server user of Agora's cloud recording takes part too.
        video: false for an audio-only call.

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
        """Length in seconds, at least 1."""
        return self.destroyed - self.created


@attrs.frozen
class SimulatedSession:
    """One user's stay in a call, from `join` until `leave`.

    Attributes:
        sid: session ID, 32 hexadecimal digits.
        cname: channel name of the call.
        uid, account: user ID, and the user's account name or None.
        profile: the user's place, network and device.
        roles: roles as the API spells them.
        speaker: whether the user sends audio (and video).
        video: false in an audio-only call.
        server: whether the user is one of Agora's own Linux servers.
        join, leave: UTC seconds.
        audio_freeze, video_freeze: freeze rates as fractions; audio is None on the web, video in an audio-only call.
        measured: false for the few sessions of which the service has no metrics.

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
        """Whether the session overlaps `[start, end)`."""
        return self.join < end and self.leave > start


@attrs.frozen
class Incident:
    """A period of bad quality: `severity` in (0, 1], in one country, or everywhere if `country` is None."""

    start: int
    end: int
    severity: float
    country: str | None


@attrs.frozen
class CallChange:
    """A change of what the service reports of one call, from `at` on. Pass it to `Variants(changes=[…])`.

    Attributes:
        call_id: the call's ID.
        at: UTC seconds; by default the change is in effect from the beginning.
        deleted: the service no longer knows the call: lists lack it, requests for details are refused.
        endless: the call never ends, and neither do the sessions that ended with it.
        moved: seconds by which `created_ts` is later (negative: earlier); it stays before the call's end.

    """

    call_id: str
    at: float = float("-inf")
    deleted: bool = attrs.field(default=False, kw_only=True)
    endless: bool = attrs.field(default=False, kw_only=True)
    moved: int = attrs.field(default=0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(
            self, call_id=validation.non_empty_str, at=validators.utc_seconds, moved=validators.integer
        )
        validation.apply_rules(self, deleted=validation.boolean, endless=validation.boolean)
