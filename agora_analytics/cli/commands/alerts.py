"""The options of `watch` and `serve` for alerts: rules, and where alerts go."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import attrs

from agora_analytics.cli.options import option
from agora_analytics.ops import alerts

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient

_PANEL: Final = "Alerts"
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a webhook may take at the end of the watch, and again before the command exits."""

_URL_VARIABLE: Final = "AGORA_ALERT_WEBHOOK"
_SECRET_VARIABLE: Final = "AGORA_ALERT_SECRET"  # noqa: S105 - the name of a variable


_TOKEN: Final = re.compile(r"/(?=[^/]*[A-Z0-9])[^/]{16,}")
"""A part of a path that is as long as a token, and not all lower case as a name."""


@attrs.frozen(kw_only=True)
class AlertRow:
    """JSON of an alert."""

    event: str
    alert: alerts.Alert


@attrs.frozen(kw_only=True)
class AlertOptions:
    """Rules, and where alerts go."""

    alert: Annotated[
        list[str] | None,
        option(
            'Alert by a rule, such as "videoFreezeRate:WebRTC > 5% for 2"; repeatable. Its series are watched too.',
            _PANEL,
            "--alert",
            metavar="RULE",
        ),
    ] = None
    alert_webhook: Annotated[
        str | None,
        option(
            f"Post alerts to this URL, or that in a file (env: {_URL_VARIABLE}); signed with {_SECRET_VARIABLE}.",
            _PANEL,
            metavar="URL|@FILE",
        ),
    ] = None
    alert_log: Annotated[
        str | None, option("Append alerts to this file as JSON Lines (-: standard output).", _PANEL, metavar="FILE")
    ] = None
    alert_link: Annotated[
        str | None, option("Link to each of the worst calls: a URL with {call_id} in it.", _PANEL, metavar="URL")
    ] = None
    alert_requests: Annotated[
        int, option("Requests a day that alerts may spend on the worst calls (default: 50; 0: none).", _PANEL, min=0)
    ] = 50

    def rules(self, *, allow_unknown: bool) -> tuple[alerts.Rule, ...]:
        """Return the rules; raises `ValueError` for a wrong one, and for an option without a rule."""
        found = tuple(alerts.parse(text, allow_unknown=allow_unknown) for text in self.alert or ())
        if not found and (self.alert_webhook or self.alert_log):
            raise ValueError("--alert-webhook and --alert-log need an --alert")
        return found

    @asynccontextmanager
    async def sinks(self) -> AsyncIterator[list[alerts.AlertSink]]:
        """Open the sinks, and deliver what waits for at most 10 seconds at the end."""
        async with AsyncExitStack() as opened:
            sinks: list[alerts.AlertSink] = []
            if self.alert_log:
                sinks.append(alerts.AlertFile(self.alert_log))
            url = _webhook_url(self.alert_webhook)
            # The variable may be set for all commands; without a rule nothing would be posted.
            if url and self.alert:
                secret = os.environ.get(_SECRET_VARIABLE) or None
                webhook = alerts.Webhook(url, secret=secret, close_timeout=CLOSE_TIMEOUT)
                sinks.append(await opened.enter_async_context(webhook))
            yield sinks

    def worst(self, client: AnalyticsClient, link: str = "") -> alerts.WorstCalls | None:
        """Return what looks up the worst calls, with a link unless another is given; None without a budget for it."""
        if not self.alert_requests:
            return None
        return alerts.WorstCalls(client, requests_per_day=self.alert_requests, link=self.alert_link or link)


def _webhook_url(given: str | None) -> str | None:
    """Return the URL of the webhook: as given, in the file that is given, or in the environment.

    Raises `ValueError`, without showing it, for one that looks like it holds a secret: every user of the machine can
    read the options of a command.
    """
    if given is None:
        return os.environ.get(_URL_VARIABLE)
    if given.startswith("@"):
        from agora_analytics.cli.settings import read_secret  # noqa: PLC0415 - loads the client

        return read_secret(Path(given.removeprefix("@")))
    url = urlsplit(given)
    if url.query or "@" in url.netloc or _TOKEN.search(url.path):
        raise ValueError(
            "--alert-webhook (value not shown) may hold a secret, and other users can read the options of a command:"
            f" put the URL into {_URL_VARIABLE}, or into a file for --alert-webhook @FILE"
        )
    return given
