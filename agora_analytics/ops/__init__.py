"""Operations: metrics, traces, alerts, a live page, and a check of the account; each needs only its own extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door_of_modules

if TYPE_CHECKING:
    from agora_analytics.ops.web.routes import *
    from agora_analytics.ops.web.state import *

__all__ = ["LiveState", "routes"]

__getattr__, __dir__ = door_of_modules(globals(), {"LiveState": "web.state", "routes": "web.routes"})
