"""Checkpoints: the spans of time that a stream has delivered, and the state that it needs to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Final, Self, TypeVar

import attrs

from agora_analytics._core import validation
from agora_analytics._core.decoding.json import DecodeFailures, encode, strict_decoder
from agora_analytics.errors import CheckpointError
from agora_analytics.spans import Span, merged

__all__ = ["Checkpoint"]

T = TypeVar("T")

_VERSION: Final = 1

_MAX_NAMED: Final = 5
"""Unknown fields that an error names, at most."""

_USE_NEWER: Final = "Use the version of the library that wrote it, or a later one."
_RESTORE: Final = "Restore it, or remove it to start over (from `start` or `--last`, if given)."


@attrs.frozen(kw_only=True)
class Checkpoint:
    """Where a stream is: `stream` identifies what it reads, `done` are the delivered spans, `open` is its other state.

    `start` (UTC seconds) is where it began, while nothing is delivered yet: a run that fails with the first event does
    not begin later.

    To process each event exactly once, save it in one transaction with what you write, and resume from it:

    ```python
    async with AnalyticsClient.from_env() as client:
        saved: str | None = None  # read it from your database
        resume = Checkpoint.decode(saved) if saved else None
        async with client.calls.follow(checkpoint=resume) as calls:
            async for event in calls:
                saved = calls.checkpoint.encode()  # write it together with the event
                break
    ```
    """

    stream: str
    done: tuple[Span, ...] = ()
    open: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    start: int | None = None
    version: int = _VERSION

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(
            self, stream=validation.non_empty_str, done=_spans, version=partial(validation.int_in_range, least=0)
        )
        validation.apply_rules(self, open=_entries, start=_start)

    def with_done(self, span: Span) -> Self:
        """Return a copy with one more delivered span."""
        return attrs.evolve(self, done=merged((*self.done, validation.instance("span", span, Span))))

    def encode(self) -> str:
        """Return the checkpoint as one line of JSON."""
        return encode(self).decode()

    @classmethod
    def decode(cls, text: str | bytes, *, source: str = "the text") -> Checkpoint:
        """Return the checkpoint that `encode` returned as text.

        Raises `CheckpointError` for other texts, for a checkpoint of a later version, and for unknown fields, because
        ignoring them would lose state. `source` names the text in errors.
        """
        if not isinstance(text, str | bytes):
            raise validation.type_error("text", text, "a str or bytes")
        try:
            body = text.encode() if isinstance(text, str) else text
            # Read twice: the strict decoder ignores unknown fields, and another version may have fields of other types.
            given = _document(body)
            _check_version(given, source)
            found = _decode(body)
        except (*DecodeFailures, ValueError, TypeError) as error:
            raise unreadable(source, error) from None
        _check_fields(given, source)
        # A sink of the user may have stored spans in any order.
        return attrs.evolve(found, done=merged(found.done))

    def check(self, stream: str, source: str) -> Self:
        """Return the checkpoint; raises `CheckpointError` if it belongs to another stream."""
        if self.stream != stream:
            raise CheckpointError(
                f"{source} belongs to another stream ({self.stream}, not {stream})",
                hint="Give each stream its own checkpoint: one name for each set of series.",
            )
        return self


def _entries(name: str, entries: object) -> Mapping[str, Any]:
    return validation.mapping(name, entries, object)


def _start(name: str, value: object) -> int | None:
    return validation.none_or(validation.int_in_range, name, value, 0)


def _spans(name: str, spans: object) -> tuple[Span, ...]:
    return validation.instances(name, spans, Span)


_decode = strict_decoder(Checkpoint)
_document = strict_decoder(dict[str, Any])


def unreadable(source: str, why: object) -> CheckpointError:
    """Return the error for a text, or a part of it, that is no checkpoint."""
    return CheckpointError(f"{source} holds no checkpoint: {why}", hint=_RESTORE)


def opened(checkpoint: Checkpoint, field: str, kind: type[T]) -> dict[str, T]:
    """Return a field of the entries of `open` by key, as values of type `kind`; entries without it are left out.

    Raises `CheckpointError` for a value of another type, and for fields that the type does not know.
    """
    wanted = {key: entry[field] for key, entry in checkpoint.open.items() if field in entry}
    try:
        found = strict_decoder(dict[str, kind])(encode(wanted))  # type: ignore[valid-type]  # the type is an argument
    except (*DecodeFailures, ValueError, TypeError) as error:
        raise unreadable("the checkpoint", f"{field!r} of an open entry: {error}") from None
    if attrs.has(kind):
        for value in wanted.values():
            check_known(value, _fields(kind), f"{field!r} of an open entry in the checkpoint")
    return found


def _check_version(given: Mapping[str, Any], source: str) -> None:
    """Check the version before anything else, because another version may have other fields."""
    # One that is no number is reported by the decoder, like any other field of a wrong type.
    version = given.get("version", _VERSION)
    if type(version) is int and version != _VERSION:
        raise CheckpointError(
            f"{source} holds a checkpoint of version {version}; this library reads {_VERSION}", hint=_USE_NEWER
        )


def _check_fields(given: Mapping[str, Any], source: str) -> None:
    check_known(given, _fields(Checkpoint), source)
    for span in given.get("done", ()):
        check_known(span, _fields(Span), f"a span in {source}")


def check_known(given: Mapping[str, Any], known: AbstractSet[str], source: str) -> None:
    """Raise `CheckpointError` for fields that are not `known`: ignoring them would lose state."""
    unknown = sorted(given.keys() - known)
    if unknown:
        named = ", ".join(map(repr, unknown[:_MAX_NAMED]))
        raise CheckpointError(f"{source} has fields that this version does not know: {named}", hint=_USE_NEWER)


def _fields(kind: type[Any]) -> set[str]:
    return {field.name for field in attrs.fields(kind)}
