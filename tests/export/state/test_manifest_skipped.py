"""The manifest and the report list what an export skipped, by the same names."""

from __future__ import annotations

from helpers.export_files import manifest_of
from helpers.export_runs import export, last_hours


async def test_the_manifest_lists_what_is_skipped_under_the_name_of_the_report(tmp_path, simulation):
    report = await export(simulation, last_hours(24 * 40, "calls"), tmp_path, max_requests=60)
    assert report.skipped
    listed = manifest_of(tmp_path)["skipped"]
    assert [(one["what"], one["reason"]) for one in listed] == [(one.what, one.reason) for one in report.skipped]
