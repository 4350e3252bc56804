"""What the dashboards show: each panel's queries, unit and thresholds, as values."""

from __future__ import annotations

from typing import Literal

import attrs

Kind = Literal["graph", "stat", "states", "table"]


@attrs.frozen
class Query:
    """One query and the legend of its series."""

    expression: str
    legend: str = ""


@attrs.frozen(kw_only=True)
class Panel:
    """One panel; `width` is of 24 columns, `warning` and `critical` are thresholds that are drawn."""

    title: str
    queries: tuple[Query, ...]
    about: str = ""
    kind: Kind = "graph"
    unit: str = "short"
    width: int = 12
    height: int = 8
    warning: float | None = None
    critical: float | None = None
    low_is_bad: bool = False


@attrs.frozen(kw_only=True)
class Variable:
    """A choice above the dashboard: the values of a label of a metric."""

    name: str
    label: str
    values: str
    several: bool = True


@attrs.frozen(kw_only=True)
class Board:
    """One dashboard: its file, and its panels by row."""

    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    rows: dict[str, tuple[Panel, ...]]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels."""
        return tuple(panel for panels in self.rows.values() for panel in panels)


APP = Variable(name="app", label="App", values="label_values(agora_realtime_window_timestamp_seconds, app)")
PRODUCT = Variable(
    name="product",
    label="Product",
    values='label_values(agora_realtime_window_timestamp_seconds{app=~"$app"}, product)',
)
DIMENSION = Variable(
    name="dimension",
    label="Dimension",
    values='label_values(agora_realtime_window_timestamp_seconds{app=~"$app", dimension!=""}, dimension)',
    several=False,
)

_WHOLE = '{app=~"$app", product=~"$product", dimension=""}'
_BY_VALUE = '{app=~"$app", product=~"$product", dimension="$dimension"}'
_STREAMS = '{app=~"$app"}'


def _quality(
    title: str, metric: str, about: str, *, warning: float, critical: float, low_is_bad: bool = False
) -> Panel:
    return Panel(
        title=title,
        about=about,
        queries=(Query(f"{metric}{_WHOLE}", "{{product}}"),),
        unit="percentunit",
        warning=warning,
        critical=critical,
        low_is_bad=low_is_bad,
    )


def _now(
    title: str,
    expression: str,
    unit: str = "short",
    *,
    warning: float | None = None,
    critical: float | None = None,
    low_is_bad: bool = False,
) -> Panel:
    return Panel(
        title=title,
        queries=(Query(expression),),
        kind="stat",
        unit=unit,
        width=4,
        height=4,
        warning=warning,
        critical=critical,
        low_is_bad=low_is_bad,
    )


OVERVIEW = Board(
    uid="agora-overview",
    title="Agora: overview",
    about="Users, channels and quality of the newest final windows.",
    variables=(APP, PRODUCT),
    rows={
        "Now": (
            _now("Users", f"sum(agora_realtime_users{_WHOLE})"),
            _now("Channels", f"sum(agora_realtime_channels{_WHOLE})"),
            _now(
                "Video freeze, worst product",
                f"max(agora_realtime_video_freeze_ratio{_WHOLE})",
                "percentunit",
                warning=0.03,
                critical=0.05,
            ),
            _now(
                "Audio freeze, worst product",
                f"max(agora_realtime_audio_freeze_ratio{_WHOLE})",
                "percentunit",
                warning=0.02,
                critical=0.03,
            ),
            _now(
                "Age of the newest window",
                f"time() - max(agora_realtime_window_timestamp_seconds{_WHOLE})",
                "s",
                warning=600,
                critical=1_200,
            ),
            _now(
                "Real-time requests left today",
                'min(agora_quota_left{counter="realtime", unit="day"} / agora_quota_limit)',
                "percentunit",
                warning=0.2,
                critical=0.05,
                low_is_bad=True,
            ),
        ),
        "Usage": (
            Panel(title="Users by product", queries=(Query(f"agora_realtime_users{_WHOLE}", "{{product}}"),)),
            Panel(title="Channels by product", queries=(Query(f"agora_realtime_channels{_WHOLE}", "{{product}}"),)),
        ),
        "Quality": (
            _quality(
                "Video freeze rate",
                "agora_realtime_video_freeze_ratio",
                "Video time frozen: over 600 ms in native SDKs, over 500 ms in the Web SDK.",
                warning=0.03,
                critical=0.05,
            ),
            _quality(
                "Audio freeze rate",
                "agora_realtime_audio_freeze_ratio",
                "Audio time frozen, native SDKs only.",
                warning=0.02,
                critical=0.03,
            ),
            _quality(
                "Network delay rate",
                "agora_realtime_network_delay_ratio",
                "Time with a delay over 400 ms.",
                warning=0.05,
                critical=0.1,
            ),
            _quality(
                "Join success rate",
                "agora_realtime_join_success_ratio",
                "Joins that succeeded.",
                warning=0.98,
                critical=0.95,
                low_is_bad=True,
            ),
        ),
    },
)

BY_DIMENSION = Board(
    uid="agora-by-dimension",
    title="Agora: quality by dimension",
    about="The values of one dimension (at most 20, the rest is `other`): country, network, device, SDK.",
    variables=(APP, PRODUCT, DIMENSION),
    rows={
        "$dimension": (
            Panel(title="Users", queries=(Query(f"topk(10, agora_realtime_users{_BY_VALUE})", "{{value}}"),)),
            Panel(
                title="Video freeze rate",
                queries=(Query(f"topk(10, agora_realtime_video_freeze_ratio{_BY_VALUE})", "{{value}}"),),
                unit="percentunit",
                warning=0.03,
                critical=0.05,
            ),
            Panel(
                title="Audio freeze rate",
                queries=(Query(f"topk(10, agora_realtime_audio_freeze_ratio{_BY_VALUE})", "{{value}}"),),
                unit="percentunit",
                warning=0.02,
                critical=0.03,
            ),
            Panel(
                title="Network delay rate",
                queries=(Query(f"topk(10, agora_realtime_network_delay_ratio{_BY_VALUE})", "{{value}}"),),
                unit="percentunit",
                warning=0.05,
                critical=0.1,
            ),
            Panel(
                title="Users now",
                queries=(Query(f"sort_desc(sum by (value) (agora_realtime_users{_BY_VALUE}))"),),
                kind="table",
                width=24,
            ),
        ),
    },
)

QUOTA = Board(
    uid="agora-quota",
    title="Agora: quota and health",
    about="What the account may still send, who spent it, and how the streams are.",
    variables=(APP,),
    rows={
        "Quota": (
            Panel(
                title="Left of the day",
                queries=(Query('agora_quota_left{unit="day"} / agora_quota_limit{unit="day"}', "{{counter}}"),),
                unit="percentunit",
                warning=0.2,
                critical=0.05,
                low_is_bad=True,
            ),
            Panel(title="Used of the day", queries=(Query('agora_quota_used{unit="day"}', "{{counter}}"),)),
            Panel(
                title="Requests a minute",
                queries=(
                    Query(
                        "sum by (endpoint, outcome) (rate(agora_requests_total[$__rate_interval])) * 60",
                        "{{endpoint}} {{outcome}}",
                    ),
                ),
            ),
            Panel(
                title="Refusals in the last hour",
                about="Rate-limit errors of the service: other programs of the account use the same quota.",
                queries=(Query("increase(agora_quota_refusals_total[1h])", "{{counter}}"),),
                critical=1,
            ),
            Panel(title="Waiting requests", queries=(Query("agora_quota_waiting", "{{counter}} {{priority}}"),)),
            Panel(
                title="Wait for the quota, 95th percentile",
                queries=(
                    Query(
                        "histogram_quantile(0.95, sum by (le, counter)"
                        " (rate(agora_quota_wait_seconds_bucket[$__rate_interval])))",
                        "{{counter}}",
                    ),
                ),
                unit="s",
            ),
        ),
        "Service": (
            Panel(
                title="Duration of a request, 95th percentile",
                queries=(
                    Query(
                        "histogram_quantile(0.95, sum by (le, endpoint)"
                        " (rate(agora_request_duration_seconds_bucket[$__rate_interval])))",
                        "{{endpoint}}",
                    ),
                ),
                unit="s",
            ),
            Panel(
                title="The service's clock beside the host's",
                queries=(
                    Query("agora_clock_offset_seconds", "ahead, at least"),
                    Query("agora_clock_offset_seconds + agora_clock_error_seconds", "ahead, at most"),
                ),
                unit="s",
            ),
        ),
        "Streams": (
            Panel(
                title="State",
                queries=(Query(f"agora_stream_state{_STREAMS} == 1", "{{stream}}: {{state}}"),),
                kind="states",
            ),
            Panel(
                title="Age of the newest final window",
                queries=(Query(f"time() - agora_watch_newest_window_timestamp_seconds{_STREAMS}", "{{watch}}"),),
                unit="s",
                warning=600,
                critical=1_200,
            ),
            Panel(
                title="Windows in the last hour",
                queries=(
                    Query(
                        f"sum by (watch, kind) (increase(agora_watch_windows_total{_STREAMS}[1h]))",
                        "{{watch}} {{kind}}",
                    ),
                ),
            ),
            Panel(
                title="Failures in a row",
                queries=(Query(f"agora_stream_failures{_STREAMS}", "{{stream}}"),),
                critical=3,
            ),
        ),
    },
)

BOARDS = (OVERVIEW, BY_DIMENSION, QUOTA)
