"""What all checkpoint stores share: names, epochs, sizes and errors.

An epoch is the fencing token of a name: each takeover draws a greater one, and a save with an earlier one is refused.
"""

from __future__ import annotations

import re
from typing import Final

from agora_analytics._core import validation
from agora_analytics.errors import CheckpointError
from agora_analytics.streams.checkpoints import Checkpoint

MAX_BYTES: Final = 64 * 2**20
"""Bytes of a checkpoint, encoded: what is larger is none of ours, and is not read into memory."""

# Only ASCII: other letters take up to four bytes each in a file name, and é has two encodings.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}")

_MAX_EPOCH: Final = 10**18 - 1
_EPOCH: Final = re.compile(rb'\{"epoch":(\d{1,18})(,|\}\Z)')


def checked_name(name: str, argument: str = "name") -> str:
    """Return a name that can be a file name; raises `ValueError` for others, and `TypeError` if it is no text."""
    text = validation.enum_value(name)
    if not isinstance(text, str):
        raise validation.type_error(
            argument, name, "a name: a str" if argument == "name" else "a Checkpoint, or a name: a str"
        )
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{argument}={validation.short_repr(text)}: allowed are 1 to 100 of the letters a to z and A to Z, digits"
            " and . _ @ + -, beginning with a letter, a digit or _"
        )
    return str.__str__(text)


def checked_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint; raises `TypeError` for anything else."""
    return validation.instance("checkpoint", checkpoint, Checkpoint)


def checked_epoch(epoch: int) -> int:
    """Return an epoch; raises `ValueError` or `TypeError` for anything else."""
    return validation.int_in_range("epoch", epoch, 0, _MAX_EPOCH)


def next_epoch(last: int, now: float) -> int:
    """Return the epoch after `last`, drawn at `now` (UTC seconds); 0 is that of a name without one.

    It is a time, so that it is later than those of a checkpoint that was removed in between.
    """
    return max(last + 1, int(now * 1_000))


def with_epoch(epoch: int, checkpoint: Checkpoint | None) -> str:
    """Return an epoch and a checkpoint as one line of JSON."""
    rest = "}" if checkpoint is None else f",{checkpoint.encode()[1:]}"
    return f'{{"epoch":{epoch}{rest}'


def split_epoch(text: bytes) -> tuple[int, bytes]:
    """Return the epoch of such a line, 0 if it has none, and the encoded checkpoint, empty if there is none.

    The epoch is read without decoding the rest, which may have megabytes.
    """
    found = _EPOCH.match(text)
    if found is None:
        return 0, text
    return int(found[1]), b"{" + text[found.end() :] if found[2] == b"," else b""


def check_size(size: int, source: str) -> None:
    """Raise `CheckpointError` for a checkpoint of more than `MAX_BYTES` bytes."""
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{source} has {size:,} bytes; a checkpoint has at most {MAX_BYTES:,}",
            hint="Check that nothing else is stored under this name; split a watch of very many groups or users.",
        )


_CLOSE_IT: Final = "Close that stream first, or give this one another name; a lease ends with its process."


def in_use(name: str, by: str, hint: str = _CLOSE_IT) -> CheckpointError:
    """Return the error for a name whose holder runs."""
    return CheckpointError(f"the checkpoint {name!r} is in use by {by}", hint=hint, kind="in_use")


def taken_over(name: str) -> CheckpointError:
    """Return the error for a save with an epoch that is no longer the last one."""
    return CheckpointError(
        f"another process took this stream over: the checkpoint {name!r} has a later epoch, and nothing was saved",
        hint="Let it run there. What was delivered here since the last save is delivered there again.",
        fault="host",
        kind="taken_over",
    )


def unusable(source: str, why: object, hint: str) -> CheckpointError:
    """Return the error for a store that cannot be read or written."""
    return CheckpointError(f"{source} cannot be used: {why}", hint=hint, fault="host", kind="store")


def seconds_between_saves(every: float) -> float:
    """Return the argument `every`; raises `ValueError` or `TypeError` unless it is a number from 0 on."""
    return validation.number_in_range("every", every)
