"""Plans without rate limits: `python unlimited_rates.py SCRIPT` runs a script without waiting for permits."""

from __future__ import annotations

import runpy
import sys

from agora_analytics import Plan
from agora_analytics.plans import PLANS


def without_rate_limits(plan: Plan) -> Plan:
    """Return the plan with its daily limits, and practically no limits per second and minute."""
    for table, limits in plan.limits.items():
        rates = {f"per_{unit}": 100_000 for unit in limits.rates if unit != "day"}
        plan = plan.with_limits(table, **rates)
    return plan


if __name__ == "__main__":
    PLANS.update({name: without_rate_limits(plan) for name, plan in PLANS.items()})
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
