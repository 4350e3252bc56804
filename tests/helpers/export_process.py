"""A process that exports: `python export_process.py URL FOLDER START END FORMAT [MAX_REQUESTS]`.

It prints the number of requests and of rows, and exits with 0 if the export is complete, 3 if not, and 1 on an error.
`AGORA_TEST_SINK` has the options of the sink as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from simulator_process import plan

from agora_analytics import AnalyticsClient, ExportError, Selection
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET


async def main(url: str, folder: str, start: str, end: str, form: str, max_requests: str = "") -> int:
    selection = Selection(int(start), int(end), datasets=("calls", "sessions", "metrics"), mids={20001})
    settings = {"app_id": APP_ID, "plan": plan(), "base_url": url, "quotas": False}
    async with AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, **settings) as client:
        try:
            options = {"max_requests": int(max_requests)} if max_requests else {}
            if "AGORA_TEST_SINK" in os.environ:
                options["sink_options"] = json.loads(os.environ["AGORA_TEST_SINK"])
            report = await client.export.run(selection, folder, format=form, concurrency=8, **options)
        except ExportError as error:
            print(f"{error.kind}: {error}", file=sys.stderr)
            return 1
    print(report.requests, dict(report.rows), flush=True)
    return 0 if report.complete else 3


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
