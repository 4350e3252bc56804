"""How bad a call was: what the worst calls are sorted by, here and on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics.catalogue import QualityMetric

if TYPE_CHECKING:
    from agora_analytics.models import Call


def freeze_rate(call: Call, metric: str = "") -> float | None:
    """Return a call's freeze rate: of video or audio as the metric says, the higher one for any other metric."""
    rates = {
        QualityMetric.VIDEO_FREEZE_RATE: (call.call_video_freeze_rate,),
        QualityMetric.AUDIO_FREEZE_RATE: (call.call_audio_freeze_rate,),
    }.get(metric, (call.call_audio_freeze_rate, call.call_video_freeze_rate))  # type: ignore[call-overload]
    return max((rate for rate in rates if rate is not None), default=None)


def freeze_impact(call: Call, metric: str = "") -> float | None:
    """Return the freeze rate times the peak of users: how bad a call was, and for how many."""
    rate = freeze_rate(call, metric)
    return None if rate is None else rate * (call.call_pcu or 0)
