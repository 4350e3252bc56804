"""Pipelines of dlt into DuckDB, over a simulation."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from helpers.export_runs import HOUR, remove_rate_limits
from helpers.times import NOON

from agora_analytics import AnalyticsClient, Retry, Selection
from agora_analytics.dlt import LoadReport, agora_source, load_reports
from agora_analytics.simulator import Simulation, World

SMALL = World(seed=7, calls_per_hour=12.0, typical_minutes=0.2, long_share=0.0, large_share=0.0)
FILTERS = ("apps", "channels", "min_freeze_rate", "insights", "finished")


class TravellingClock:
    """The host's time since the test began, from noon, plus the hours that the test has passed over."""

    def __init__(self) -> None:
        self.ahead = NOON - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def selected(*datasets: str, back: int = 2 * HOUR, **filters: Any) -> Selection:
    return Selection(NOON - back, NOON + 30 * 24 * HOUR, datasets=datasets, **filters)


class Warehouse(NamedTuple):
    """A pipeline into DuckDB, and the simulation that its source reads."""

    pipeline: Any
    simulation: Simulation
    clock: TravellingClock
    client: Callable[[], Any]

    def load(self, *datasets: str, back: int = 2 * HOUR, **options: Any) -> tuple[LoadReport, ...]:
        """Run the pipeline over all datasets that are named, and return what it reports of them."""
        filters = {name: options.pop(name) for name in FILTERS if name in options}
        source = agora_source(selected(*datasets, back=back, **filters), client=self.client, **options)
        self.pipeline.run(source)
        return load_reports(self.pipeline)

    def rows(self, table: str) -> list[tuple]:
        with self.pipeline.sql_client() as client:
            return sorted(client.execute_sql(f"SELECT * FROM {table}"), key=repr)

    def keys(self, table: str, *columns: str) -> list[tuple]:
        with self.pipeline.sql_client() as client:
            return sorted(client.execute_sql(f"SELECT {', '.join(columns)} FROM {table}"))


def client_of(simulation: Simulation, **options: Any) -> AnalyticsClient:
    """Return a client that does not limit its requests, and does not wait for an outage to end."""
    return simulation.client(**{"quotas": False, "retry": Retry(attempts=1)} | options)


def pipeline_in(folder: Path, name: str = "agora_test") -> Any:
    """Return a pipeline with its files and its database in a folder."""
    import dlt

    return dlt.pipeline(
        name,
        destination=dlt.destinations.duckdb(str(folder / "warehouse.duckdb")),
        dataset_name="agora",
        pipelines_dir=str(folder / "pipelines"),
    )


def open_warehouse(folder: Path) -> Warehouse:
    """Return a warehouse in a folder, over a simulation without rate limits."""
    clock = TravellingClock()
    simulation = Simulation(world=SMALL, clock=clock)
    remove_rate_limits(simulation)
    return Warehouse(pipeline_in(folder), simulation, clock, partial(client_of, simulation))
