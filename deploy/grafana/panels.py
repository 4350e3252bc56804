"""What the dashboards show: each panel's queries, unit and thresholds, as values."""

from __future__ import annotations

from typing import Any, Final, Literal

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


@attrs.frozen(kw_only=True)
class Quality:
    """A metric that is a fraction, with the thresholds that all its panels draw."""

    title: str
    metric: str
    about: str
    warning: float
    critical: float
    low_is_bad: bool = False

    def panel(self, query: Query, **more: Any) -> Panel:
        """Return a panel of a query for the metric; `more` are fields of the panel."""
        return Panel(
            **{"title": self.title, **more},
            queries=(query,),
            unit="percentunit",
            warning=self.warning,
            critical=self.critical,
            low_is_bad=self.low_is_bad,
        )

    def by_product(self) -> Panel:
        """Return a graph of each product."""
        return self.panel(Query(f"{self.metric}{_WHOLE}", "{{product}}"), about=self.about)

    def by_value(self) -> Panel:
        """Return a graph of the ten highest values of the dimension."""
        return self.panel(Query(f"topk(10, {self.metric}{_BY_VALUE})", "{{value}}"))

    def worst_now(self, title: str) -> Panel:
        """Return the highest value of all products now."""
        return self.panel(Query(f"max({self.metric}{_WHOLE})"), title=title, **_NOW)


_NOW: Final[dict[str, Any]] = {"kind": "stat", "width": 4, "height": 4}
"""Fields of a panel that shows one number."""

VIDEO_FREEZE = Quality(
    title="Video freeze rate",
    metric="agora_realtime_video_freeze_ratio",
    about="Video time frozen: over 600 ms in native SDKs, over 500 ms in the Web SDK.",
    warning=0.03,
    critical=0.05,
)
AUDIO_FREEZE = Quality(
    title="Audio freeze rate",
    metric="agora_realtime_audio_freeze_ratio",
    about="Audio time frozen, native SDKs only.",
    warning=0.02,
    critical=0.03,
)
NETWORK_DELAY = Quality(
    title="Network delay rate",
    metric="agora_realtime_network_delay_ratio",
    about="Time with a delay over 400 ms.",
    warning=0.05,
    critical=0.1,
)
JOIN_SUCCESS = Quality(
    title="Join success rate",
    metric="agora_realtime_join_success_ratio",
    about="Joins that succeeded.",
    warning=0.98,
    critical=0.95,
    low_is_bad=True,
)


def _percentile(title: str, histogram: str, label: str) -> Panel:
    rates = f"sum by (le, {label}) (rate({histogram}_bucket[$__rate_interval]))"
    query = Query(f"histogram_quantile(0.95, {rates})", f"{{{{{label}}}}}")
    return Panel(title=f"{title}, 95th percentile", queries=(query,), unit="s")


OVERVIEW = Board(
    uid="agora-overview",
    title="Agora: overview",
    about="Users, channels and quality of the newest final windows.",
    variables=(APP, PRODUCT),
    rows={
        "Now": (
            Panel(title="Users", queries=(Query(f"sum(agora_realtime_users{_WHOLE})"),), **_NOW),
            Panel(title="Channels", queries=(Query(f"sum(agora_realtime_channels{_WHOLE})"),), **_NOW),
            VIDEO_FREEZE.worst_now("Video freeze, worst product"),
            AUDIO_FREEZE.worst_now("Audio freeze, worst product"),
            Panel(
                title="Age of the newest window",
                queries=(Query(f"time() - max(agora_realtime_window_timestamp_seconds{_WHOLE})"),),
                unit="s",
                warning=600,
                critical=1_200,
                **_NOW,
            ),
            Panel(
                title="Real-time requests left today",
                queries=(Query('min(agora_quota_left{counter="realtime", unit="day"} / agora_quota_limit)'),),
                unit="percentunit",
                warning=0.2,
                critical=0.05,
                low_is_bad=True,
                **_NOW,
            ),
        ),
        "Usage": (
            Panel(title="Users by product", queries=(Query(f"agora_realtime_users{_WHOLE}", "{{product}}"),)),
            Panel(title="Channels by product", queries=(Query(f"agora_realtime_channels{_WHOLE}", "{{product}}"),)),
        ),
        "Quality": tuple(one.by_product() for one in (VIDEO_FREEZE, AUDIO_FREEZE, NETWORK_DELAY, JOIN_SUCCESS)),
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
            *(one.by_value() for one in (VIDEO_FREEZE, AUDIO_FREEZE, NETWORK_DELAY)),
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
            _percentile("Wait for the quota", "agora_quota_wait_seconds", "counter"),
        ),
        "Service": (
            _percentile("Duration of a request", "agora_request_duration_seconds", "endpoint"),
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
        # Each worker shows the whole fleet: hence `max`.
        "Fleet": (
            Panel(
                title="Workers",
                queries=(Query("max by (fleet, state) (agora_fleet_workers)", "{{fleet}} {{state}}"),),
            ),
            Panel(
                title="Jobs with nobody for a minute",
                about="Between two turns, and in a takeover, nobody has a job for seconds: these are not counted.",
                queries=(Query("max by (fleet) (agora_fleet_unheld_jobs)", "{{fleet}}"),),
                critical=1,
            ),
            Panel(
                title="Age of the oldest data",
                queries=(
                    Query(
                        "topk(10, max by (fleet, account, kind) (agora_fleet_age_max_seconds))", "{{account}} {{kind}}"
                    ),
                ),
                unit="s",
                warning=1_200,
                critical=2_700,
            ),
            Panel(
                title="Takeovers in the last hour",
                queries=(Query("max by (fleet) (increase(agora_fleet_takeovers_total[1h]))", "{{fleet}}"),),
            ),
        ),
    },
)

BOARDS = (OVERVIEW, BY_DIMENSION, QUOTA)
