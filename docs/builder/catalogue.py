"""The page of Agora's metrics, dimensions, products, granularities and metric ids."""

from __future__ import annotations

from collections.abc import Iterator

from tables import table

from agora_analytics import catalogue


def catalogue_page() -> str:
    """Return the page, from `agora_analytics.catalogue`."""
    return "\n\n".join(_parts()) + "\n"


def _parts() -> Iterator[str]:
    yield "# Agora's metrics"
    yield (
        "Every name of the API reference, with unit and meaning. A metric without a unit is a count; a fraction of "
        "0.12 is 12 %. `agora_analytics.catalogue` has them as enums, and `agora-analytics metrics` prints them. "
        "Methods also take names that are not listed here."
    )
    for kind in catalogue.Metric.__subclasses__():
        yield f"## {kind.__name__}\n\n{kind.__doc__}"
        yield table(("name", "unit", "meaning"), ((f"`{one}`", one.unit, one.meaning) for one in kind))
    for other in (catalogue.Dimension, catalogue.Product, catalogue.Granularity):
        yield f"## {other.__name__}\n\n{other.__doc__}"
        yield ", ".join(f"`{one}`" for one in other)
    yield f"## Freeze buckets\n\nThe ranges of a call's freeze rates: {_names(catalogue.FREEZE_BUCKETS)}."
    yield f"## MetricId\n\n{catalogue.MetricId.__doc__}"
    ids = ((f"`{int(one)}`", f"`{one.name.lower()}`", one.unit, one.meaning) for one in catalogue.MetricId)
    yield table(("id", "name", "unit", "meaning"), ids)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
