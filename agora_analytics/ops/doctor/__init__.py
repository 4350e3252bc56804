"""A check of the account, the hosts and the clock in a few requests: `examine(client)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.ops.doctor.checks import *
    from agora_analytics.ops.doctor.examination import *
    from agora_analytics.ops.doctor.profile import *
    from agora_analytics.ops.doctor.report import *

__all__ = ["AccountProfile", "Check", "DoctorReport", "Finding", "HostTiming", "LimitFinding", "checklist", "examine"]

__getattr__, __dir__ = door(globals(), "report", "profile", "checks", "examination")
