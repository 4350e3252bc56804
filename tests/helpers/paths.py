"""Folders of the repository."""

from __future__ import annotations

from pathlib import Path

import agora_analytics

ROOT = Path(__file__).parents[2]
HELPERS = Path(__file__).parent
PACKAGE = Path(agora_analytics.__file__).parent
