"""Invalid input raises a clear error before anything is sent: the argument, its value, what is allowed."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from fractions import Fraction

import pytest

from agora_analytics import AnalyticsClient, Call, Filter, Retry, Timeouts
from agora_analytics.plans import STARTER
from agora_analytics.protocols import Response

pytestmark = pytest.mark.real_time

NOW = 1_795_521_600
HOUR = 3_600


class IndexNumber:
    """A whole number that is not an int, like those of numpy."""

    def __init__(self, value):
        self._value = value

    def __index__(self):
        return self._value


class NoSendTransport:
    """A transport that fails on every request while it is `silent`."""

    hosts = 1
    silent = True

    def scrub(self, body):
        return body

    async def send(self, request, host=0):
        assert not self.silent, f"sent {request}"
        return Response(200, {"Date": formatdate(NOW, usegmt=True)}, b'{"code":200,"call_lists":[]}')

    async def close(self):
        pass


def make_client(plan="premium", **options):
    settings = {"app_id": "app", "clock": lambda: NOW, "transport": NoSendTransport()} | options
    return AnalyticsClient("customer", "the-secret", plan=plan, **settings)


async def client_that_knows_the_time():
    """Return a client that knows the time from one response, and fails on another request."""
    transport = NoSendTransport()
    client = make_client(transport=transport)
    transport.silent = False
    await client.calls.page(START, END)
    transport.silent = True
    return client


async def run(invoke, client):
    """Call a method, and await or iterate what it returns."""
    result = invoke(client)
    if hasattr(result, "__await__"):
        return await result
    return [item async for item in result]


START, END = NOW - 2 * HOUR, NOW - HOUR
CALL = Call(call_id="c1", cname="x", created_ts=START, destroyed_ts=END, finished=True)


@pytest.mark.parametrize(
    ("invoke", "error", "message"),
    [
        (lambda c: c.calls.page(datetime(2026, 11, 24), END), ValueError, r"start=.* is naive"),  # noqa: DTZ001
        (lambda c: c.calls.page(START * 1000, END), ValueError, r"start=\d+ is not a time in seconds \(milliseconds"),
        (lambda c: c.calls.page(START, END * 1000), ValueError, r"end=\d+ .*milliseconds"),
        (lambda c: c.calls.page(float(START), END), ValueError, r"start=.*whole seconds"),
        (lambda c: c.calls.page("yesterday", END), TypeError, r"start='yesterday'"),
        (lambda c: c.calls.page(END, START), ValueError, rf"end={START} must be after start={END}"),
        (lambda c: c.calls.page(START, START), ValueError, "must be after"),
        (
            lambda c: c.calls.page(START, NOW + 60),
            ValueError,
            rf"end={NOW + 60} lies in the future .* at most {NOW - 21}",
        ),
        (
            lambda c: c.calls.page(START, NOW - 20),
            ValueError,
            rf"newer than the delay of 20 s .* at most {NOW - 21} now",
        ),
        (lambda c: c.calls.page(NOW - 7 * 86_400, END), ValueError, rf"older than the plan keeps .* {NOW - 604_799}"),
        (lambda c: c.calls.page(NOW - 16 * HOUR - 60, NOW - 60), ValueError, "at most 57599 s"),
        (lambda c: c.calls.page(START, END, page_size=101), ValueError, r"page_size=101: allowed are 1 to 100"),
        (lambda c: c.calls.page(START, END, page_size=0), ValueError, r"page_size=0"),
        (lambda c: c.calls.page(START, END, page_no=0), ValueError, r"page_no=0: allowed are 1 or more"),
        (lambda c: c.calls.page(START, END, page_no=True), TypeError, r"page_no=True"),
        (lambda c: c.calls.page(START, END, cname=""), ValueError, r"cname='' is empty"),
        (lambda c: c.calls.search(START, END, page_size=1000), ValueError, r"page_size=1000"),
        (lambda c: c.calls.search(NOW - 8 * 86_400, END), ValueError, "older than the plan keeps"),
        (lambda c: c.calls.sessions("c1"), TypeError, "start and end go together"),
        (lambda c: c.calls.sessions(CALL, START), TypeError, "start and end go together"),
        (lambda c: c.calls.sessions(""), ValueError, "call='' is empty"),
        (lambda c: c.calls.sessions(Call(call_id="c")), ValueError, "has no created_ts"),
        (lambda c: c.calls.sessions(CALL, uids="12"), TypeError, "uids='12'"),
        (lambda c: c.calls.sessions(CALL, uids=[-(2**31) - 1]), ValueError, r"uids\[0\]=-2147483649: allowed are -2"),
        (lambda c: c.calls.sessions(CALL, uids=["a,b"]), ValueError, "comma"),
        (lambda c: c.calls.sessions_page(CALL, uids=range(11)), ValueError, "uids has 11 entries: .* at most 10"),
        (lambda c: c.calls.sessions_page(CALL, page_size=200), ValueError, "page_size=200"),
        (lambda c: c.calls.metrics(CALL, "sid"), TypeError, "sids='sid'"),
        (lambda c: c.calls.metrics(CALL, [""]), ValueError, r"sids\[0\]='' is empty"),
        (lambda c: c.calls.statistics(CALL, "", "os"), ValueError, "metric=''"),
        (lambda c: c.calls.statistics(CALL, "audio_freeze_rate", ""), ValueError, "dimension=''"),
        (lambda c: c.calls.statistics("c", "x", "os", NOW - 5 * HOUR, END), ValueError, "at most 10799 s"),
        (lambda c: c.calls.freeze_buckets("c", "x", NOW - 5 * HOUR, END), ValueError, "at most 10799 s"),
        (lambda c: c.calls.timeline(CALL, None), TypeError, "metric=None"),
        (lambda c: c.insights.usage("", NOW - 86_400, NOW - 50_000), ValueError, "metric=''"),
        (lambda c: c.insights.usage("userCount", START, END), ValueError, "newer than the delay of 43200 s"),
        (
            lambda c: c.insights.usage("userCount", NOW - 86_400, NOW - 50_000, granularity=""),
            ValueError,
            "granularity",
        ),
        (lambda c: c.insights.quality("x", NOW - 86_400, NOW - 50_000, product=""), ValueError, "product=''"),
        (
            lambda c: c.insights.usage_total("peakCurrentUsers", NOW - 86_400, NOW - 50_000, dimension="os"),
            ValueError,
            "no dimension is allowed",
        ),
        (
            lambda c: c.insights.usage_total("userCount", NOW - 86_400, NOW - 50_000, dimension_values=["x"]),
            ValueError,
            "need a dimension",
        ),
        (
            lambda c: c.insights.usage_total(
                "userCount", NOW - 86_400, NOW - 50_000, dimension="os", filters=[Filter("country", "China")]
            ),
            ValueError,
            "dimension='region' only",
        ),
        (
            lambda c: c.insights.quality_total(
                "networkDelay", NOW - 86_400, NOW - 50_000, dimension="channelSize", dimension_values=["1"]
            ),
            ValueError,
            "takes none",
        ),
        (lambda c: c.realtime.usage("userCount", NOW - 65, NOW - 61, product="Native"), ValueError, "same 20-second"),
        (lambda c: c.realtime.usage("userCount", NOW - 600, NOW - 10, product="Native"), ValueError, "delay of 40 s"),
        (lambda c: c.realtime.usage("userCount", NOW - 2400, NOW - 90, product="Native"), ValueError, "older"),
        (
            lambda c: c.realtime.usage("channelCount", NOW - 600, NOW - 90, product="Native", dimension="os"),
            ValueError,
            "userCount' only",
        ),
        (
            lambda c: c.realtime.quality("networkDelay", NOW - 600, NOW - 90, product="Native", uids=[1]),
            ValueError,
            "need a cname",
        ),
        (
            lambda c: c.realtime.quality(
                "networkDelay", NOW - 600, NOW - 90, product="Native", cname="c", uids=range(11)
            ),
            ValueError,
            "uids has 11 entries",
        ),
        (
            lambda c: c.realtime.usage(
                "userCount", NOW - 600, NOW - 90, product="Native", dimension="sdk", dimension_values=['a"b']
            ),
            ValueError,
            "double quote",
        ),
        (
            lambda c: c.realtime.usage(
                "userCount", NOW - 600, NOW - 90, product="Native", dimension="sdk", dimension_values="4.1"
            ),
            TypeError,
            "not one",
        ),
        (lambda c: c.realtime.usage_top("os", NOW - 10, product="Native"), ValueError, "newer|future"),
        (lambda c: c.realtime.usage_top("os", NOW - 3000, product="Native"), ValueError, "older"),
        (lambda c: c.realtime.usage_top("", NOW - 100, product="Native"), ValueError, "dimension=''"),
        (lambda c: c.realtime.quality_top("", "os", NOW - 100, product="Native"), ValueError, "metric=''"),
        (lambda c: c.realtime.quality_top("x", "os", NOW - 100, product=""), ValueError, "product=''"),
        (
            lambda c: c.realtime.quality_top("x", "os", NOW - 100, product="Native", extra_metrics=""),
            ValueError,
            "extra",
        ),
        (lambda c: c.realtime.usage_top("os", datetime.now(UTC).replace(tzinfo=None), product="x"), ValueError, "at="),
    ],
)
async def test_an_invalid_argument_raises_with_its_name_and_nothing_is_sent(invoke, error, message):
    with pytest.raises(error, match=message):
        await run(invoke, await client_that_knows_the_time())


@pytest.mark.parametrize(
    ("plan", "invoke"),
    [
        ("starter", lambda c: c.calls.page(START, END)),
        ("standard", lambda c: c.insights.usage("userCount", START, END)),
        (STARTER, lambda c: c.realtime.usage("userCount", START, END, product="Native")),
    ],
)
async def test_an_endpoint_outside_the_plan_raises_and_names_the_plans_that_include_it(plan, invoke):
    with pytest.raises(ValueError, match=r"plan='\w+' does not include GET .*plans that do: .*enterprise"):
        await run(invoke, make_client(plan))


async def test_a_request_without_an_app_id_raises():
    with pytest.raises(ValueError, match="app_id=None"):
        await make_client(app_id=None).calls.page(START, END)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"customer_id": ""}, ValueError, "customer_id is empty"),
        ({"customer_secret": " s3cret "}, ValueError, "customer_secret is empty or has spaces"),
        ({"customer_id": "a:b"}, ValueError, "colon"),
        ({"customer_secret": b"bytes"}, TypeError, "customer_secret must be a str"),
        ({"customer_id": '"customer"'}, ValueError, r"customer_id is in quotes \(value not shown\): remove them"),
        ({"customer_secret": "'s3cret'"}, ValueError, "customer_secret is in quotes"),
        ({"customer_secret": "s3cret\nHost: x"}, ValueError, "customer_secret has spaces or control characters"),
        ({"customer_secret": "s3cret\udc80"}, ValueError, "customer_secret has spaces or control characters"),
        ({"app_id": ""}, ValueError, "app_id is empty"),
        ({"app_id": "an app"}, ValueError, "app_id has spaces"),
        ({"app_id": " app"}, ValueError, "app_id is empty or has spaces around"),
        ({"app_id": '"app"'}, ValueError, "app_id is in quotes"),
        ({"app_id": 5}, TypeError, "app_id must be a str, not int"),
        ({"retry": 3}, TypeError, "retry=3: allowed is a Retry"),
        ({"timeouts": 5}, TypeError, "timeouts=5: allowed is a Timeouts"),
        ({"session": "x"}, TypeError, "session='x': allowed is a ClientSession"),
        ({"ledger": "x.db"}, TypeError, r"ledger='x.db': allowed is a Ledger, such as FileLedger\(path\)"),
        ({"checkpoints": "folder"}, TypeError, r"checkpoints='folder': .* FileCheckpoints\(folder\)"),
        ({"transport": AnalyticsClient}, TypeError, "transport=<type>: allowed is a Transport"),
        ({"clock": NOW}, TypeError, f"clock={NOW}: allowed is a function"),
        ({"plan": 3}, TypeError, "plan=3: allowed is"),
        ({"quotas": "no"}, TypeError, "quotas='no': allowed is True or False"),
        ({"read_ahead": 0}, TypeError, "read_ahead=0: allowed is True or False"),
        ({"close_ledger": None}, TypeError, "close_ledger=None: allowed is True or False"),
        ({"max_wait": "yes"}, TypeError, "max_wait='yes': allowed is a number"),
        ({"max_wait": float("nan")}, ValueError, "max_wait=nan: allowed are numbers from 0"),
        ({"max_bytes": 2.5}, TypeError, "max_bytes=2.5: allowed is an int"),
        ({"base_url": {"https": "https://me:pass@api.agora.io"}}, TypeError, r"base_url: .*not dict \(value not shown"),
        ({"base_url": b"https://me:pass@api.agora.io"}, TypeError, "base_url: .*not bytes"),
        ({"base_url": "me:pass@api.agora.io"}, ValueError, r"base_url \(value not shown\) is not like"),
        ({"base_url": "https://[me:pass@api"}, ValueError, r"base_url \(value not shown\) is not like"),
        ({"plan": "gold"}, ValueError, "plan='gold': allowed are starter, standard, premium, enterprise"),
        ({"max_wait": -1}, ValueError, "max_wait=-1"),
        ({"max_bytes": 0}, ValueError, "max_bytes=0"),
        ({"base_url": "http://api.agora.io"}, ValueError, "https is needed"),
        ({"base_url": "ftp://x"}, ValueError, "not like"),
        ({"base_url": "api.agora.io"}, ValueError, "not like"),
        ({"base_url": "https://me:pass@api.agora.io"}, ValueError, "carries credentials"),
        ({"base_url": []}, ValueError, "base_url is empty"),
    ],
)
def test_invalid_settings_raise_at_once(settings, error, message):
    arguments = {"customer_id": "customer", "customer_secret": "the-secret", "plan": "premium"} | settings
    with pytest.raises(error, match=message) as caught:
        AnalyticsClient(arguments.pop("customer_id"), arguments.pop("customer_secret"), **arguments)
    assert "s3cret" not in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_from_env_reads_the_environment_and_names_missing_variables(monkeypatch):
    for name in ("CUSTOMER_ID", "CUSTOMER_SECRET", "PLAN", "APP_ID", "BASE_URL"):
        monkeypatch.delenv(f"AGORA_{name}", raising=False)
    monkeypatch.setenv("AGORA_CUSTOMER_ID", "customer")
    with pytest.raises(ValueError, match="AGORA_CUSTOMER_SECRET, AGORA_PLAN not set"):
        AnalyticsClient.from_env()
    monkeypatch.setenv("AGORA_CUSTOMER_SECRET", "the-secret")
    monkeypatch.setenv("AGORA_PLAN", "Premium")
    monkeypatch.setenv("AGORA_APP_ID", "app")
    monkeypatch.setenv("AGORA_BASE_URL", "https://api.sd-rtn.com, https://api.agora.io/")
    client = AnalyticsClient.from_env()
    assert repr(client) == "AnalyticsClient(plan='premium', app_id='app')"
    assert client._dispatcher._transport._hosts == ("https://api.sd-rtn.com", "https://api.agora.io")
    assert AnalyticsClient.from_env(plan="enterprise").plan.name == "enterprise"


def test_an_uninitialized_client_has_a_repr():
    assert repr(object.__new__(AnalyticsClient)) == "AnalyticsClient(not made)"


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: Retry(attempts=0), "attempts=0: allowed are 1 or more"),
        (lambda: Retry(attempts=2.5), r"attempts=2\.5: allowed is an int"),
        (lambda: Retry(base=-1), "base=-1: allowed are numbers from 0"),
        (lambda: Retry(cap="8"), "cap='8': allowed is a number"),
        (lambda: Retry(total=True), "total=True: allowed is a number"),
        (lambda: Timeouts(total=0), "total=0: allowed are numbers above 0"),
        (lambda: Timeouts(connect=float("inf")), "connect=inf: allowed are numbers above 0"),
        (lambda: Timeouts(read="x"), "read='x': allowed is a number"),
    ],
)
def test_invalid_numbers_of_retry_and_timeouts_raise(construct, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        construct()


def test_numbers_of_other_classes_and_no_limit_are_accepted():
    assert Retry(attempts=IndexNumber(3), total=float("inf")) == Retry(attempts=3, total=float("inf"))
    assert Timeouts(read=None, total=Fraction(3, 2)) == Timeouts(total=1.5)


@pytest.mark.parametrize(
    "invoke",
    [
        lambda c: c.calls.search(0, 99_999_999_999),
        lambda c: c.calls.sessions("c1", 0, 99_999_999_999),
        lambda c: c.insights.usage("userCount", NOW - 31 * 24 * HOUR, NOW),
        lambda c: c.realtime.usage("userCount", 0, 99_999_999_999, product="Native"),
    ],
)
async def test_a_span_beyond_the_retention_raises_before_the_time_is_known(invoke):
    with pytest.raises(ValueError, match="older than the plan keeps"):
        await run(invoke, make_client(transport=NoSendTransport()))
