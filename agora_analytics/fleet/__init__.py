"""A fleet: jobs of many accounts on many hosts, each done by one worker at a time, and taken over when that dies.

| Question | Where to look |
| --- | --- |
| What can be described? | `description.py`, `description_file.py` |
| Who gets which job, and what happens when a worker ends? | `worker.py`; docket's part is in `queue.py` |
| Who holds what, since when? | `status.py` |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.fleet.check import *
    from agora_analytics.fleet.description import *
    from agora_analytics.fleet.fleet import *
    from agora_analytics.fleet.status import *

__all__ = [
    "Account",
    "AccountCheck",
    "ExportJob",
    "Fleet",
    "FleetCheck",
    "FleetStatus",
    "FollowJob",
    "Job",
    "JobStatus",
    "Secret",
    "WatchJob",
    "WorkerStatus",
]

__getattr__, __dir__ = door(globals(), "description", "status", "check", "fleet")
