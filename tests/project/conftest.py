"""Tests of the documentation site share one that is built."""

from __future__ import annotations

import pytest
from helpers.built_site import build_site


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    return build_site(tmp_path_factory.mktemp("site") / "built")
