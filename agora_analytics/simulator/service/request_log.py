"""The request log of a simulated service: the latest requests and the counts of all, for tests to check."""

from __future__ import annotations

from collections import Counter, deque

import attrs


@attrs.frozen
class LogEntry:
    """One request and its answer.

    Attributes:
        at: the service's time in UTC seconds.
        host: index of the host.
        endpoint: the endpoint's name in `plans`, or empty if the request did not reach one.
        method, path, query, body: as received.
        status: HTTP status of the answer.
        code: `code` in the body of the answer, or None.
        refused: empty if the request was accepted, otherwise why not, in one word: `qps`, `qpm` or `qpd` (rate limits),
            `latency`, `range` or `length` (time range), `access` (plan), `parameter`, `milliseconds`, `app`,
            `credentials`, `path`, `unknown` (call) or `fault`.

    """

    at: float
    host: int
    endpoint: str
    method: str
    path: str
    query: str
    body: bytes | None
    status: int
    code: int | None
    refused: str = ""


class RequestLog:
    """Counts of all requests, and the latest of them, at most `size`."""

    def __init__(self, size: int) -> None:
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.log: deque[LogEntry] = deque(maxlen=size)

    def add(self, entry: LogEntry) -> None:
        """Record a request."""
        if entry.endpoint:
            self.counts[entry.endpoint] += 1
        if entry.refused:
            self.refusals[entry.refused] += 1
        self.log.append(entry)
