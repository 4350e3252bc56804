"""The users of a simulated world: countries, networks, SDK versions, systems and devices, with their shares.

There are more countries and SDK versions than a top list shows (20), and more devices (50), so that lists get cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import attrs

from agora_analytics.catalogue import Product

Shares = Mapping[str, float]
"""Values of a dimension with their shares of the users, which sum to 1."""


@attrs.frozen
class Profile:
    """One user's place, network, device and SDK."""

    product: Product
    country: str
    region: str
    network: str
    os: str
    device: str
    sdk: str


def _decreasing(names: list[str]) -> Shares:
    """Give each name a share, in decreasing order (1, 1/2, 1/3, …)."""
    # Zipf's law, as countries and versions roughly follow: a few large values, and many that a top list leaves out.
    weights = {name: 1 / (rank + 1) for rank, name in enumerate(names)}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


_REGIONS = {
    "China": ["Shanghai", "Beijing", "Guangdong", "Zhejiang"],
    "United States": ["California", "Texas", "New York"],
    "India": ["Maharashtra", "Karnataka"],
    "Germany": ["Bavaria", "Berlin"],
    # Accents here, and an apostrophe below: filters have to quote and encode them.
    "Brazil": ["São Paulo", "Bahia"],
    "Japan": ["Tokyo", "Osaka"],
}
_OTHERS = [
    "Indonesia", "Vietnam", "Türkiye", "Egypt", "Mexico", "France", "United Kingdom", "Spain", "Italy", "Thailand",
    "Philippines", "Nigeria", "Kenya", "Poland", "Côte d'Ivoire", "Korea", "Canada", "Chile", "Peru", "Norway",
]  # fmt: skip
COUNTRIES: Shares = _decreasing([*_REGIONS, *_OTHERS])
"""Countries with their shares of users."""

NETWORKS: Shares = {"WIFI": 0.62, "4G": 0.19, "5G": 0.08, "LAN": 0.06, "3G": 0.03, "UNKNOWN": 0.02}
"""Network types with their shares of users."""

_NATIVE_SDKS = _decreasing(
    [
        "4.1.1",
        "3.6.1.1",
        "4.3.2",
        "3.7.1.247",
        "4.2.6",
        # The 3.0 among them report a metric ID that the API reference does not list (`metric_samples`).
        *(f"3.{minor}.{patch}" for minor in range(6) for patch in range(4)),
    ]
)
_WEB_SDKS = _decreasing(["4.20.0", "4.19.3", "4.18.2", "4.17.0", "4.14.0", "3.6.11"])
_NATIVE_SYSTEMS: Shares = {"Android": 0.52, "iOS": 0.33, "Windows": 0.1, "macOS": 0.05}
_WEB_SYSTEMS: Shares = {"Web": 1.0}
_NATIVE_DEVICES = {
    "Android": [f"{maker}-{model}" for maker in ("ldn-al", "sm-g", "redmi", "vivo") for model in range(10, 22)],
    "iOS": [f"iPhone{major},{minor}" for major in range(11, 16) for minor in (1, 2)],
    "Windows": ["80HH", "20KNA004CD", "XPS 13 9310"],
    "macOS": ["MacBookPro18,3", "MacBookAir10,1"],
}
_WEB_DEVICES = ["Chrome 129", "Edge 128", "Safari 17.5", "Firefox 130"]
# Cut off in mid-word, as in the example of the API reference.
SERVER_DEVICE = "Linux version 4.14.255-311-248.529.amzn2.x86_64 (mockbuild@ip-10"
"""Device type of Agora's recording servers."""


def country_of(region: str) -> str:
    """Return the country of a region."""
    return _COUNTRY_OF[region]


def shares(product: Product | None, dimension: str) -> Shares:
    """Return the values of a dimension with their shares of the users of a product, or of all users (None).

    `dimension` is `country`, `region`, `net`, `sdk`, `os`, `device` or `channelSize`.
    """
    if product is not None:
        return _SHARES[product][dimension]
    # Both products count the same, whatever a world's `web_share` is: these tables are shared by all worlds.
    mixed: dict[str, float] = {}
    for kind in Product:
        for value, part in _SHARES[kind][dimension].items():
            mixed[value] = mixed.get(value, 0.0) + part / len(Product)
    return mixed


def pick(rng: Random, web_share: float) -> Profile:
    """Draw one user's profile."""
    product = Product.WEBRTC if rng.random() < web_share else Product.NATIVE
    os = _DRAW[product]["os"](rng)
    region = _DRAW[product]["region"](rng)
    devices = _WEB_DEVICES if product is Product.WEBRTC else _NATIVE_DEVICES[os]
    return Profile(
        product=product,
        country=country_of(region),
        region=region,
        network=_DRAW[product]["net"](rng),
        os=os,
        device=devices[int(rng.random() * len(devices))],
        sdk=_DRAW[product]["sdk"](rng),
    )


def _regions() -> Shares:
    spread: dict[str, float] = {}
    for country, part in COUNTRIES.items():
        names = _REGIONS.get(country, [f"{country} Capital"])
        spread |= dict.fromkeys(names, part / len(names))
    return spread


def _devices() -> Shares:
    spread: dict[str, float] = {}
    for os, part in _NATIVE_SYSTEMS.items():
        spread |= dict.fromkeys(_NATIVE_DEVICES[os], part / len(_NATIVE_DEVICES[os]))
    return spread


_REGION_SHARES = _regions()
_COUNTRY_OF = {region: country for country in COUNTRIES for region in _REGIONS.get(country, [f"{country} Capital"])}
_SHARED: Mapping[str, Shares] = {
    "country": COUNTRIES,
    "region": _REGION_SHARES,
    "net": NETWORKS,
    "channelSize": {"1": 0.06, "2": 0.21, "3-5": 0.38, "6-10": 0.2, "11-50": 0.1, "50+": 0.05},
}
_SHARES: Mapping[Product, Mapping[str, Shares]] = {
    Product.NATIVE: {**_SHARED, "sdk": _NATIVE_SDKS, "os": _NATIVE_SYSTEMS, "device": _devices()},
    Product.WEBRTC: {
        **_SHARED,
        "sdk": _WEB_SDKS,
        "os": _WEB_SYSTEMS,
        "device": dict.fromkeys(_WEB_DEVICES, 1 / len(_WEB_DEVICES)),
    },
}


def _drawer(table: Shares) -> Callable[[Random], str]:
    names = list(table)
    bounds = [sum(list(table.values())[: count + 1]) for count in range(len(names))]
    # `choices` would sum plain weights again for each user.
    return lambda rng: rng.choices(names, cum_weights=bounds)[0]


_DRAW = {
    product: {name: _drawer(table) for name, table in tables.items() if name != "device"}
    for product, tables in _SHARES.items()
}
