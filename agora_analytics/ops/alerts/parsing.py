"""Reads rules from text: `videoFreezeRate:WebRTC by country > 5% for 2 with 20 users`.

    METRIC[:PRODUCT] [in CHANNEL] [by DIMENSION [of VALUE ...]] [uids UID ...] COMPARISON NUMBER[%]
        [for WINDOWS] [with USERS users] [recover NUMBER[%] [for WINDOWS]]
        [silent DURATION] [no data DURATION] [max VALUES]

Commas between the parts are ignored. A word with spaces or commas is written in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

import attrs

from agora_analytics._core import validation
from agora_analytics._core.validation import durations
from agora_analytics._core.validation import percent as percents
from agora_analytics._core.validation.names import did_you_mean
from agora_analytics.catalogue import Dimension, Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.models.points import Number
from agora_analytics.ops.alerts.rules import KEYWORDS, Rule
from agora_analytics.streams.watch.series import Series

__all__ = ["parse"]

_TOKEN: Final = re.compile(
    r'(?P<comparison>[<>]=?)|(?P<comma>[,;])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"<>,;]+)|(?P<bad>\S)'
)
_MAX_TEXT: Final = 1_000
"""Characters of a rule: its text is part of logs, alerts and checkpoints."""

_METRICS: Final = (*RealtimeUsageMetric, *QualityMetric)
_CLAUSES: Final = "in, by, of, uids, > and other comparisons, for, with, recover, silent, no data, max"


def parse(text: str, *, allow_unknown: bool = False) -> Rule:
    """Return the rule of a text like `videoFreezeRate:WebRTC > 5% for 2`.

    ```python
    from agora_analytics.ops import alerts

    rule = alerts.parse("videoFreezeRate:WebRTC by country > 5% for 2 with 20 users recover 3% for 3 silent 30m")
    assert rule.series.dimension == "country" and rule.silence == 1_800
    ```

    Without a product it is Native. Raises `ValueError` that names the place in the text and what is allowed there, also
    for names outside the catalogue unless `allow_unknown=True`.
    """
    found = validation.non_empty_str("alert", text)
    if len(found) > _MAX_TEXT:
        raise ValueError(f"alert has {len(found)} characters: allowed are {_MAX_TEXT}")
    return _Parser(found, allow_unknown=validation.boolean("allow_unknown", allow_unknown)).rule()


@attrs.frozen
class _Token:
    """A word of the text: where it begins, and what it is; a word in quotes is never a keyword."""

    at: int
    text: str
    kind: str

    @property
    def keyword(self) -> str:
        if self.kind == "comparison":
            return "comparison"
        return self.text if self.kind == "word" and self.text in KEYWORDS else ""


class _Parser:
    """Reads one text from left to right; each part may come once."""

    def __init__(self, text: str, *, allow_unknown: bool) -> None:
        self._text = text
        self._allow_unknown = allow_unknown
        self._tokens = self._tokenize()
        self._at = 0
        self._series: dict[str, Any] = {}
        self._rule: dict[str, Any] = {}
        self._seen: set[str] = set()

    def rule(self) -> Rule:
        """Return the rule."""
        metric, product = self._metric()
        clauses: dict[str, Callable[[], None]] = {
            "in": self._in,
            "by": self._by,
            "uids": self._uids,
            "comparison": self._comparison,
            "for": self._for,
            "with": self._with,
            "recover": self._recover,
            "silent": self._silent,
            "no": self._no_data,
            "max": self._max,
        }
        while (token := self._peek()) is not None:
            read = clauses.get(token.keyword)
            if read is None:
                self._fail(token, f"{did_you_mean(token.text, KEYWORDS)}allowed are {_CLAUSES}")
            # The second would silently win, and one of the two is a mistake.
            if token.keyword in self._seen:
                self._fail(token, "it is there twice")
            self._seen.add(token.keyword)
            read()
        if "comparison" not in self._rule:
            self._fail(None, "a comparison is missing: allowed are >, >=, < and <= with a number, like > 5%")
        return self._built(metric, product)

    def _built(self, metric: str, product: str) -> Rule:
        try:
            return Rule(series=Series(metric, product=product, **self._series), **self._rule)
        except (ValueError, TypeError) as error:
            raise ValueError(f"alert {validation.short_repr(self._text)}: {error}") from None

    # Clauses.

    def _metric(self) -> tuple[str, str]:
        token = self._next("METRIC:PRODUCT, like videoFreezeRate:WebRTC")
        metric, _, product = token.text.partition(":")
        if token.keyword or not metric:
            self._fail(token, "allowed is METRIC:PRODUCT, or METRIC for Native, like videoFreezeRate:WebRTC")
        self._check_name(token, metric, _METRICS, "metric")
        product = product or Product.NATIVE.value
        self._check_name(token, product, tuple(Product), "product")
        return metric, product

    def _in(self) -> None:
        self._skip()
        self._series["cname"] = self._word("the name of a channel").text

    def _by(self) -> None:
        self._skip()
        token = self._word("a dimension")
        self._check_name(token, token.text, tuple(Dimension), "dimension")
        self._series["dimension"] = token.text
        following = self._peek()
        if following is not None and following.keyword == "of":
            self._skip()
            self._series["dimension_values"] = self._words("values of the dimension")

    def _uids(self) -> None:
        self._skip()
        self._series["uids"] = tuple(int(uid) if uid.isdecimal() else uid for uid in self._words("user IDs"))

    def _comparison(self) -> None:
        self._rule["comparison"] = self._next("a comparison").text
        self._rule["threshold"] = self._number()

    def _for(self) -> None:
        self._skip()
        self._rule["windows"] = self._count("the number of windows, like 2")

    def _with(self) -> None:
        self._skip()
        self._rule["min_users"] = self._count("the least number of users, like 20")
        token = self._next("the word users")
        if token.text not in {"user", "users"}:
            self._fail(token, "allowed is the word users, as in: with 20 users")

    def _recover(self) -> None:
        self._skip()
        self._rule["recovery"] = self._number()
        following = self._peek()
        if following is not None and following.keyword == "for":
            self._skip()
            self._rule["recovery_windows"] = self._count("the number of windows, like 3")

    def _silent(self) -> None:
        self._skip()
        self._rule["silence"] = self._duration()

    def _no_data(self) -> None:
        self._skip()
        token = self._next("the word data")
        if token.text != "data":
            self._fail(token, "allowed is the word data, as in: no data 10m")
        self._rule["no_data"] = self._duration()

    def _max(self) -> None:
        self._skip()
        self._rule["max_values"] = self._count("the number of values that are tracked, like 20")

    # Values.

    def _number(self) -> Number:
        token = self._next("a number, like 5% or 0.05")
        number, percent = percents.number_of(token.text), token.text.endswith("%")
        if number is None:
            self._fail(token, "allowed is a number, like 5% or 0.05")
        counted = self._tokens[0].text.partition(":")[0] in set(RealtimeUsageMetric)
        if percent and counted:
            self._fail(token, "the metric is a count: allowed is a number without %")
        # A fraction above 1 never occurs: the rule would be valid and silent for ever.
        if not percent and number > 1 and self._tokens[0].text.partition(":")[0] in set(QualityMetric):
            self._fail(token, f"the metric is a fraction: did you mean {token.text}%?")
        return int(number) if number == int(number) else float(number)

    def _count(self, what: str) -> int:
        token = self._next(what)
        if not re.fullmatch(r"\d{1,9}", token.text):
            self._fail(token, f"allowed is {what}")
        return int(token.text)

    def _duration(self) -> int:
        token = self._next(f"a duration like {durations.EXAMPLES}")
        found = durations.seconds_of(token.text)
        if found is None:
            self._fail(token, f"allowed are durations like {durations.EXAMPLES}")
        return found

    def _check_name(self, token: _Token, name: str, known: Sequence[str], kind: str) -> None:
        if name not in known and not self._allow_unknown:
            names = ", ".join(known)
            self._fail(token, f"{name!r} is no known {kind}: {did_you_mean(name, known)}known are {names}")

    # Tokens.

    def _tokenize(self) -> tuple[_Token, ...]:
        return tuple(self._found())

    def _found(self) -> Iterator[_Token]:
        for match in _TOKEN.finditer(self._text):
            kind = str(match.lastgroup)
            token = _Token(match.start() + 1, match[kind], kind)
            if kind == "bad":
                self._fail(token, "a quote that does not end")
            if kind == "quoted":
                token = attrs.evolve(token, text=re.sub(r"\\(.)", r"\1", token.text))
            if kind != "comma":
                yield token

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _skip(self) -> None:
        self._at += 1

    def _next(self, allowed: str) -> _Token:
        token = self._peek()
        if token is None:
            self._fail(None, f"allowed is {allowed}")
        self._skip()
        return token

    def _word(self, what: str) -> _Token:
        token = self._next(what)
        if token.keyword or not token.text:
            self._fail(token, f"allowed is {what}; a word of the rule's own is written in quotes")
        return token

    def _words(self, what: str) -> tuple[str, ...]:
        words = [self._word(what).text]
        while (token := self._peek()) is not None and not token.keyword:
            words.append(self._word(what).text)
        return tuple(words)

    def _fail(self, token: _Token | None, what: str) -> NoReturn:
        place = "at its end" if token is None else f"at column {token.at} ({validation.short_repr(token.text)})"
        raise ValueError(f"alert {validation.short_repr(self._text)}, {place}: {what}")
