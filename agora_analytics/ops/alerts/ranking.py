"""How bad a call was: what the worst calls and their users are sorted by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics.catalogue import QualityMetric

if TYPE_CHECKING:
    from agora_analytics.models import Call


def rate_of(metric: str, *, audio: float | None, video: float | None) -> float | None:
    """Return the freeze rate of a metric: of video or audio, or the higher one for any other metric."""
    if metric == QualityMetric.VIDEO_FREEZE_RATE:
        return video
    if metric == QualityMetric.AUDIO_FREEZE_RATE:
        return audio
    return max((rate for rate in (audio, video) if rate is not None), default=None)


def freeze_rate(call: Call, metric: str = "") -> float | None:
    """Return a call's freeze rate: of video or audio as the metric says, the higher one for any other metric."""
    return rate_of(metric, audio=call.call_audio_freeze_rate, video=call.call_video_freeze_rate)


def freeze_impact(call: Call, metric: str = "") -> float | None:
    """Return the freeze rate times the peak of users: how bad a call was, and for how many."""
    rate = freeze_rate(call, metric)
    return None if rate is None else rate * (call.call_pcu or 0)
