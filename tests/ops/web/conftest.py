"""Tests of the live page share a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from helpers.browser import Tab, chromium, open_tab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    async with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Any) -> Callable[..., AbstractAsyncContextManager[Tab]]:
    """Return a function that opens a tab, such as `tab(color_scheme="dark")`."""
    return partial(open_tab, browser)
