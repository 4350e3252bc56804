"""Arguments, checked before a request is spent on them: one rule for each kind of argument.

A rule takes the argument's name and the value given, and returns the value to use. It raises `TypeError` for what is
not of the kind and `ValueError` for what is out of bounds; the message has the name, the value (shortened, and never a
secret) and what is allowed. What means the same is taken: a member of an `Enum` for its value, any whole number for an
int, a signed user ID for the unsigned one.
"""

from __future__ import annotations

from agora_analytics._core.validation.lists import (
    PAGE_SIZE,
    SIDS,
    UIDS,
    app_ids,
    at_most,
    dimension_values,
    instances,
    is_spelled,
    listed,
    numbers,
    quotable,
    spelled,
    texts,
    uids,
)
from agora_analytics._core.validation.messages import shown, wrong
from agora_analytics._core.validation.objects import function, having, instance, mapping, none_or, path, settle
from agora_analytics._core.validation.scalars import (
    amount,
    app_id,
    choice,
    flag,
    granularity,
    is_text,
    number,
    optional,
    plain,
    text,
    whole,
    wrong_secret,
)

__all__ = [
    "PAGE_SIZE",
    "SIDS",
    "UIDS",
    "amount",
    "app_id",
    "app_ids",
    "at_most",
    "choice",
    "dimension_values",
    "flag",
    "function",
    "granularity",
    "having",
    "instance",
    "instances",
    "is_spelled",
    "is_text",
    "listed",
    "mapping",
    "none_or",
    "number",
    "numbers",
    "optional",
    "path",
    "plain",
    "quotable",
    "settle",
    "shown",
    "spelled",
    "text",
    "texts",
    "uids",
    "whole",
    "wrong",
    "wrong_secret",
]
