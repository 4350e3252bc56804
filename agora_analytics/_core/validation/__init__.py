"""Validation of arguments before a request is spent on them: one rule for each kind of argument.

A rule takes the argument's name and value, and returns the value to use. It raises `TypeError` for a wrong type and
`ValueError` for a value out of bounds; the message has the name, the value (shortened, and never a secret) and what is
allowed. Equivalent values are converted: a member of an `Enum` to its value, any whole number to an int, a signed user
ID to the unsigned one.
"""

from __future__ import annotations

from agora_analytics._core.validation.lists import (
    PAGE_SIZE,
    SIDS,
    UIDS,
    app_ids,
    as_list,
    dimension_values,
    instances,
    ints_from,
    is_without_commas,
    max_length,
    non_empty_strs,
    uids,
    without_commas,
    without_quotes,
)
from agora_analytics._core.validation.values import (
    app_id,
    apply_rules,
    as_int,
    boolean,
    enum_value,
    function,
    granularity,
    instance,
    int_in_range,
    is_sendable,
    mapping,
    non_empty_str,
    none_or,
    number_in_range,
    one_of,
    optional_str,
    path,
    printable,
    secret_error,
    short_repr,
    type_error,
    with_members,
)

__all__ = [
    "PAGE_SIZE",
    "SIDS",
    "UIDS",
    "app_id",
    "app_ids",
    "apply_rules",
    "as_int",
    "as_list",
    "boolean",
    "dimension_values",
    "enum_value",
    "function",
    "granularity",
    "instance",
    "instances",
    "int_in_range",
    "ints_from",
    "is_sendable",
    "is_without_commas",
    "mapping",
    "max_length",
    "non_empty_str",
    "non_empty_strs",
    "none_or",
    "number_in_range",
    "one_of",
    "optional_str",
    "path",
    "printable",
    "secret_error",
    "short_repr",
    "type_error",
    "uids",
    "with_members",
    "without_commas",
    "without_quotes",
]
