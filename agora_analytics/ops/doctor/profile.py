"""The settings that an examination found, kept in a file for later clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import attrs

from agora_analytics._core import files, validation
from agora_analytics.plans import Limits, Plan

__all__ = ["AccountProfile"]

Selects = Literal["start", "overlap"]

_VERSION: Final = 1


@attrs.frozen(kw_only=True)
class AccountProfile:
    """What is true of an account: its plan with the limits that the service named, its hosts, and how it answers.

    ```python
    from agora_analytics.ops import doctor

    report = await doctor.examine(client)
    report.profile.save("agora-profile.json")
    settings = doctor.AccountProfile.load("agora-profile.json").settings()
    later = AnalyticsClient.from_env(**settings)
    ```

    It holds no credential and no App ID.

    Attributes:
        plan: the plan, with every limit that holds.
        hosts: the hosts that answered, fastest first; empty if their addresses are not known.
        end_inclusive: see `DoctorReport`, like the next two.
        selection: whether searches select calls that `start` in a time range or those that `overlap` it.
        peak_metrics: the names of peak metrics that the service accepts.
        examined_at: UTC second of the examination.

    """

    plan: Plan
    hosts: tuple[str, ...] = ()
    end_inclusive: bool | None = None
    selection: Selects | None = None
    peak_metrics: tuple[str, ...] = ()
    examined_at: int = 0

    def settings(self) -> dict[str, Any]:
        """Return keyword arguments of `AnalyticsClient`: `plan`, and `base_url` where hosts are known."""
        return {"plan": self.plan} | ({"base_url": list(self.hosts)} if self.hosts else {})

    def document(self) -> dict[str, Any]:
        """Return the profile as JSON values, as `save` writes them."""
        limits = {table: attrs.asdict(limits) for table, limits in self.plan.limits.items()}
        plan = {"name": self.plan.name, "limits": limits, "counters": dict(self.plan.counters)}
        return {"version": _VERSION} | attrs.asdict(self, recurse=False) | {"plan": plan}

    def save(self, path: str | Path) -> None:
        """Write the profile to a JSON file, whole or not at all; raises `OSError`."""
        files.write_atomically(Path(path), json.dumps(self.document(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a profile; raises `OSError` if the file cannot be read, `ValueError` if it is not a profile."""
        try:
            document = json.loads(files.read(Path(path)))
            # Another version may have other fields, and settings that were read wrongly would be worse than none.
            if not isinstance(document, dict) or document.pop("version", None) != _VERSION:
                raise ValueError(f"version {_VERSION} of a profile is needed")  # noqa: TRY301 - reported like all others
            return cls(**_fields(document))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"profile {str(path)!r} cannot be used: {error}") from None


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a profile from its JSON; raises `ValueError`, `TypeError` or `KeyError` for a wrong one."""
    plan = document["plan"]
    limits = {table: Limits(**values) for table, values in plan["limits"].items()}
    selection = validation.none_or(validation.one_of, "selection", document["selection"], get_args(Selects))
    return {
        "plan": Plan(plan["name"], limits, plan["counters"]),
        "hosts": validation.non_empty_strs("hosts", document["hosts"]) if document["hosts"] else (),
        "end_inclusive": validation.none_or(validation.boolean, "end_inclusive", document["end_inclusive"]),
        "selection": selection,
        "peak_metrics": tuple(map(str, document["peak_metrics"])),
        "examined_at": validation.int_in_range("examined_at", document["examined_at"], 0),
    }
