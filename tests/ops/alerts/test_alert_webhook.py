"""Webhooks: what a receiver gets, what is retried and given up, and what nothing shows."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import hmac
import html
import json
import logging
import pickle
import ssl
import time
from contextlib import asynccontextmanager

import attrs
import pytest
from aiohttp import web
from helpers.alerting import run
from helpers.certificates import write_certificate
from helpers.echo_server import error_report

from agora_analytics import Retry
from agora_analytics.ops import alerts

pytestmark = pytest.mark.real_time

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 characters").decode()
PATH = "/services/T0000/B0000/secretpath"
QUICK = Retry(attempts=4, base=0.001, cap=0.002, total=30.0)


def some_alerts(count: int) -> list[alerts.Alert]:
    return run("userCount < 5", [3, 9] * count)[:count]


class Receiver:
    """Answers with a list of statuses, the last one for ever; notes what came."""

    def __init__(self, *answers, delay: float = 0.0) -> None:
        self.answers = list(answers) or [200]
        self.delay = delay
        self.requests: list[tuple[dict[str, str], bytes, float]] = []

    async def __call__(self, request):
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((headers, await request.read(), time.monotonic()))
        await asyncio.sleep(self.delay)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        return web.Response(status=status, headers=more, text="secret of the receiver")

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _, _ in self.requests]


@asynccontextmanager
async def serving(receiver, context: ssl.SSLContext | None = None):
    runner = web.ServerRunner(web.Server(receiver), shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}{PATH}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def hooked(*answers, delay: float = 0.0, **options):
    receiver = Receiver(*answers, delay=delay)
    async with serving(receiver) as url, alerts.Webhook(url, **{"retry": QUICK, **options}) as webhook:
        yield receiver, webhook


async def delivered(webhook, found) -> None:
    for alert in found:
        await webhook.send(alert)
    async with asyncio.timeout(20):
        await webhook.flush()


async def test_a_receiver_gets_the_alert_as_json_with_a_text_and_a_signature_that_it_can_verify():
    (alert,) = some_alerts(1)
    async with hooked(secret=SECRET) as (receiver, webhook):
        await delivered(webhook, [alert])
        assert webhook.pending() == ()
    [(headers, body, _)] = receiver.requests
    sent = json.loads(body)
    assert html.unescape(sent["text"]) == alert.text
    assert (sent["key"], sent["kind"], sent["command"]) == (alert.key, "firing", alert.command)
    assert headers["webhook-id"] == alert.key
    content = f"{alert.key}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"a secret of 24 characters", content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    now = int(headers["webhook-timestamp"])
    assert abs(now - time.time()) < 60
    assert alerts.verify_signature(SECRET, headers, body, now=now)
    assert not alerts.verify_signature(SECRET, headers, body + b" ", now=now)
    assert not alerts.verify_signature(SECRET, headers, body, now=now + 301)
    assert alerts.verify_signature(SECRET, headers, body, now=now + 301, tolerance=600)
    assert not alerts.verify_signature("another", headers, body, now=now)
    assert not alerts.verify_signature(SECRET, headers | {"webhook-timestamp": "x"}, body, now=now)
    assert not alerts.verify_signature(SECRET, headers | {"webhook-id": "other"}, body, now=now)
    assert not alerts.verify_signature(SECRET, {}, body, now=now)
    assert alerts.verify_signature(SECRET, {name.title(): value for name, value in headers.items()}, body)
    assert not alerts.verify_signature(SECRET, headers | {"webhook-timestamp": "1795522420"}, body)


async def test_without_a_secret_nothing_is_signed():
    async with hooked() as (receiver, webhook):
        await delivered(webhook, some_alerts(1))
    assert "webhook-signature" not in receiver.requests[0][0]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_receiver_that_fails_for_a_while_gets_each_alert_once_and_in_order(status):
    found = some_alerts(3)
    async with hooked(status, status, 200) as (receiver, webhook):
        await delivered(webhook, found)
        assert webhook.undelivered == ()
    assert receiver.ids == [found[0].key] * 3 + [found[1].key, found[2].key]


async def test_a_retry_waits_as_long_as_the_receiver_says():
    async with hooked((429, {"Retry-After": "1"}), 200) as (receiver, webhook):
        await delivered(webhook, some_alerts(1))
    first, second = (at for _, _, at in receiver.requests)
    assert second - first >= 1.0


async def test_a_name_from_outside_neither_notifies_a_channel_nor_makes_a_line_of_its_own():
    hostile = "<!channel> <https://evil.example.com|click>\n&firing: userCount 0\u2028\x1b[31m"
    (alert,) = some_alerts(1)
    call = alerts.WorstCall(call_id="1", cname=hostile, worst_users=(alerts.WorstUser(uid=hostile, network=hostile),))
    alert = attrs.evolve(alert, group=hostile, calls=(call,), note=hostile)
    async with hooked() as (receiver, webhook):
        await delivered(webhook, [alert])
    text = json.loads(receiver.requests[0][1])["text"]
    assert not set("<>\x1b\u2028") & set(text)
    assert len(str(alert).splitlines()) == 1
    assert len(alert.text.splitlines()) == len(("alert", "call", "note", "command"))
    assert json.loads(receiver.requests[0][1])["group"] == hostile


async def test_a_receiver_that_never_recovers_is_given_up_and_that_is_said(caplog):
    found = some_alerts(2)
    with caplog.at_level(logging.WARNING, "agora_analytics.alerts"):
        async with hooked(500) as (receiver, webhook):
            await delivered(webhook, found)
            assert [one.alert for one in webhook.undelivered] == found
            assert webhook.undelivered[0].reason == "the receiver answered HTTP 500"
    assert len(receiver.requests) == 8
    assert len([record for record in caplog.records if "given up" in record.getMessage()]) == 2


@pytest.mark.parametrize("answer", [400, 401, 404, 410, (302, {"Location": "/elsewhere"})])
async def test_a_refusal_or_a_redirect_is_not_retried(answer):
    async with hooked(answer) as (receiver, webhook):
        await delivered(webhook, some_alerts(1))
        assert len(webhook.undelivered) == 1
    assert len(receiver.requests) == 1


async def test_a_slow_receiver_holds_nobody_up_and_is_timed_out():
    async with hooked(200, delay=5.0, timeout=0.1, retry=Retry(attempts=1), close_timeout=0.3) as (_, webhook):
        started = time.monotonic()
        for alert in some_alerts(20):
            await webhook.send(alert)
        assert time.monotonic() - started < 1.0
        assert len(webhook.pending()) == 20
        await webhook.flush()
        assert webhook.undelivered[0].reason.endswith("in 0.1 s")


async def test_a_receiver_that_is_not_there_is_retried():
    async with serving(Receiver()) as url:
        pass
    async with alerts.Webhook(url, retry=QUICK) as webhook:
        await delivered(webhook, some_alerts(1))
        assert "failed (ClientConnectorError)" in webhook.undelivered[0].reason


async def test_an_untrusted_certificate_is_given_up_at_once_and_nothing_is_sent(tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*write_certificate(tmp_path))
    receiver = Receiver()
    async with serving(receiver, context) as url, alerts.Webhook(url, retry=Retry(base=60.0)) as webhook:
        await delivered(webhook, some_alerts(1))
        assert "is not trusted" in webhook.undelivered[0].reason
    assert receiver.requests == []


async def test_closing_delivers_what_waits():
    found = some_alerts(10)
    async with hooked(200, delay=0.01) as (receiver, webhook):
        for alert in found:
            await webhook.send(alert)
    assert receiver.ids == [alert.key for alert in found]
    with pytest.raises(RuntimeError, match="is closed"):
        await webhook.send(found[0])


async def test_closing_takes_no_longer_than_its_bound_and_says_what_was_not_delivered(caplog):
    found = some_alerts(3)
    started = time.monotonic()
    async with hooked(200, delay=30.0, timeout=60.0, close_timeout=0.2) as (_, webhook):
        for alert in found:
            await webhook.send(alert)
    assert time.monotonic() - started < 5
    assert webhook.pending() == tuple(found)
    assert "alerts not delivered when it was closed: 3" in caplog.text


async def test_a_cancelled_close_leaves_no_task_and_no_connection():
    async with serving(Receiver(200, delay=30.0)) as url:
        webhook = alerts.Webhook(url, close_timeout=20.0, timeout=60.0)
        await webhook.send(some_alerts(1)[0])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await webhook.close()
        assert webhook._session is None
        assert [task for task in asyncio.all_tasks() if "_deliver" in repr(task.get_coro())] == []


async def test_the_queue_is_bounded_and_what_is_lost_is_said(caplog):
    (alert,) = some_alerts(1)
    async with hooked(200, delay=30.0, timeout=60.0, close_timeout=0.0) as (_, webhook):
        for _ in range(1_005):
            await webhook.send(alert)
        assert len(webhook.pending()) == 1_000
    assert caplog.text.count("is lost, as 1000 others wait") == 5


# Secrets.


async def test_nothing_shows_the_secret_or_the_path(caplog):
    with caplog.at_level(logging.DEBUG):
        async with hooked(500, secret=SECRET) as (_, webhook):
            await delivered(webhook, some_alerts(1))
            shown = [repr(webhook), str(webhook), repr(vars(webhook)["_signing"]), webhook.undelivered[0].reason]
    shown += [record.getMessage() for record in caplog.records if record.name.startswith("agora")]
    assert repr(webhook).startswith("Webhook('http://127.0.0.1:")
    assert not any(word in text for text in shown for word in (SECRET, SECRET[6:], "secretpath", "secret of the"))
    for refused in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            refused(webhook)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example.com/secretpath", "in the clear"),
        ("https://user:secretpath@hooks.example.com/", "user or password"),
        ("ftp://hooks.example.com/secretpath", "is not like"),
        ("secretpath", "is not like"),
        ("https://[secretpath", "is not like"),
    ],
)
async def test_a_wrong_url_is_refused_without_being_shown(url, says):
    with pytest.raises(ValueError, match=says) as caught:
        alerts.Webhook(url)
    assert "secretpath" not in error_report(caught.value)


@pytest.mark.parametrize("secret", ["", " s3cretword", "whsec_s3cretword!", "'s3cretword'", b"s3cretword"])
async def test_a_wrong_secret_is_refused_without_being_shown(secret):
    with pytest.raises((ValueError, TypeError), match="secret") as caught:
        alerts.Webhook("https://hooks.example.com/", secret=secret)
    assert "s3cretword" not in error_report(caught.value)
