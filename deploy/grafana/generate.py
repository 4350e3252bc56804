"""Generates the dashboards beside this file: `python deploy/grafana/generate.py`; `--check` only compares.

Needs the dependency group `dashboards`. What they show stands in `panels.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import count
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from panels import BOARDS, Board, Panel, Query, Variable

FOLDER = Path(__file__).parent
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
KINDS = {"graph": timeseries.Panel, "stat": stat.Panel, "states": statetimeline.Panel, "table": table.Panel}

AnyPanel = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel


def rendered(board: Board) -> str:
    """Return the JSON of a dashboard."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["agora"])
        .timezone("utc")
        .time("now-1h", "now")
        .refresh("20s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in board.variables:
        made = made.with_variable(_variable(variable))
    number = count(1)
    for title, panels in board.rows.items():
        made = made.with_row(dashboard.Row(title).id(next(number)))
        for panel in panels:
            made = made.with_panel(_panel(panel).id(next(number)))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variable(variable: Variable) -> dashboard.QueryVariable:
    made = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .query(variable.values)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(variable.several)
        .include_all(variable.several)
    )
    return made.all_value(".+") if variable.several else made


def _panel(panel: Panel) -> AnyPanel:
    made = KINDS[panel.kind]().title(panel.title).description(panel.about).datasource(SOURCE)
    made = made.unit(panel.unit).span(panel.width).height(panel.height).thresholds(_thresholds(panel))
    if isinstance(made, timeseries.Panel) and (panel.warning is not None or panel.critical is not None):
        made = made.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        made = made.with_target(_target(query, panel).ref_id(letter))
    return made


def _target(query: Query, panel: Panel) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).datasource(SOURCE)
    return made.instant().format(PromQueryFormat.TABLE) if panel.kind == "table" else made


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    """Return what colours a value: where low values are bad, the colours run the other way."""
    warning, critical = panel.warning, panel.critical
    if panel.low_is_bad:
        steps = [Threshold(None, "red"), Threshold(critical, "orange"), Threshold(warning, "green")]
    else:
        steps = [Threshold(None, "green"), Threshold(warning, "orange"), Threshold(critical, "red")]
    kept = [step for number, step in enumerate(steps) if not number or step.value is not None]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(kept)


def main() -> int:
    """Write the files, or with `--check` say which differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for board in BOARDS:
        path, text = FOLDER / f"{board.uid}.json", rendered(board)
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        print("not as generated:", ", ".join(stale), file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
