"""What the build adds: links of the package index's page that work there, and a software bill of materials (PEP 770).

`PROJECT_URL` is the repository's address. The release sets it to where it runs, so that no address is written down that
a move or a fork makes wrong; without it the README keeps its relative links and the project has no URLs.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.requirements import Requirement

UPLOT = "agora_analytics/ops/web/static/uplot.js"


class Metadata(MetadataHookInterface):
    """The README and the project's URLs."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add `readme` and `urls`."""
        base = os.environ.get("PROJECT_URL", "").rstrip("/")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        if base:
            text = absolute_links(text, base, f"v{metadata['version']}")
            metadata["urls"] = project_urls(base)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class Build(BuildHookInterface[Any]):
    """The bill of materials, in the wheel's `.dist-info/sboms`."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the document outside the tree, and add it to the wheel."""
        if self.target_name != "wheel" or version == "editable":
            return
        script = Path(self.root, UPLOT).read_text(encoding="utf-8")
        document = bill_of_materials(self.metadata.name, self.metadata.version, self.metadata.core.dependencies, script)
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name, f"{self.metadata.name}.cdx.json")
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        build_data["sbom_files"].append(str(path))

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Remove the written document."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def project_urls(base: str) -> dict[str, str]:
    """Return the links that a package index shows beside the page."""
    return {
        "Homepage": base,
        "Documentation": f"{base}/blob/main/docs/index.md",
        "Changelog": f"{base}/blob/main/CHANGELOG.md",
        "Issues": f"{base}/issues",
        "Source": base,
    }


def absolute_links(text: str, base: str, tag: str) -> str:
    """Return Markdown whose relative links lead to the files of a tag: an index has the README alone."""

    def replace(link: re.Match[str]) -> str:
        picture, label, target = link.groups()
        return f"{picture}[{label}]({base}/{'raw' if picture else 'blob'}/{tag}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)", replace, text)


def bill_of_materials(name: str, version: str, requirements: list[str], script: str) -> dict[str, Any]:
    """Return a CycloneDX document: the package, what it requires, and the library of charts that it carries.

    Requirements have no version, as the installer chooses it. The carried library's version comes from its file.
    """
    found = re.search(r"uPlot \(v([\d.]+)\)", script)
    if found is None:
        raise ValueError(f"{UPLOT} no longer begins with its version, as in 'uPlot (v1.6.32)'")
    own, chart = f"pkg:pypi/{name}@{version}", f"pkg:npm/uplot@{found[1]}"
    required = {f"pkg:pypi/{one.name}": one for one in map(Requirement, requirements)}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component(own, name, version) | _licence()},
        "components": [
            _component(chart, "uplot", found[1]) | _licence(),
            *({"type": "library", "name": one.name, "bom-ref": key, "purl": key} for key, one in required.items()),
        ],
        "dependencies": [{"ref": own, "dependsOn": sorted([chart, *required])}],
    }


def _component(purl: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "name": name, "version": version, "bom-ref": purl, "purl": purl}


def _licence() -> dict[str, Any]:
    return {"licenses": [{"license": {"id": "MIT"}}]}
