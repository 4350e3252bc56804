"""What every answer of the service carries around its data."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Answer:
    """The envelope: `code` (absent, 0 or 200 on success), `message` (means nothing on success), `requestId`."""

    code: int | None = None
    message: str | None = None
    requestId: str | None = None
