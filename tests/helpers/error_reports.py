"""What a report of an error may show, to look for credentials in it."""

from __future__ import annotations

import traceback
from pathlib import Path

from helpers.paths import PACKAGE


def report_of(error: BaseException | None) -> str:
    """Return all that a report of an error may show: of the package's and of libraries' frames the variables, too."""
    texts: list[str] = []
    while error is not None:
        texts += repr(error), str(error), *map(str, getattr(error, "__notes__", ()))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "tests" not in Path(frame.f_code.co_filename).parts or str(PACKAGE) in frame.f_code.co_filename:
                texts += [f"{name}={value!r}" for name, value in frame.f_locals.items()]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)
