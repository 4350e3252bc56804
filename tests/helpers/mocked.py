"""A response class for aioresponses, whose own responses lack the stream writer that newer aiohttp requires."""

from __future__ import annotations

from inspect import signature
from typing import Any
from unittest.mock import Mock

import aiohttp


class MockedResponse(aiohttp.ClientResponse):
    """A response without a connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "stream_writer" in signature(aiohttp.ClientResponse.__init__).parameters:
            kwargs.setdefault("stream_writer", Mock())
        super().__init__(*args, **kwargs)
