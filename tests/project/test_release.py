"""Files of the release: they can be read, agree with each other, and pin what they run."""

from __future__ import annotations

import re

import pytest
import yaml
from helpers.pages import README
from helpers.paths import ROOT
from packaging.requirements import Requirement
from test_project import PROJECT

VERSION = PROJECT["project"]["version"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def data_files() -> list[str]:
    """Return each YAML and CFF file of the tree, also those in hidden folders."""
    folders = (".github", "deploy")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".yml", ".yaml"}]
    found += [path for path in ROOT.iterdir() if path.suffix in {".yml", ".yaml", ".cff"}]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", data_files())
def test_a_data_file_is_valid_yaml_without_double_keys(name):
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1} has a key twice"
            return super().construct_mapping(node, deep=deep)

    Strict.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node, deep=True))
    assert yaml.load((ROOT / name).read_text(encoding="utf-8"), Strict)  # noqa: S506 - a safe loader


def test_there_are_data_files_of_each_kind():
    assert {"CITATION.cff", ".pre-commit-config.yaml", "deploy/conda/recipe.yaml", "deploy/compose.yaml"} <= {
        *data_files()
    }
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]


def test_citation_and_recipe_have_the_version_of_the_project():
    assert load("CITATION.cff")["version"] == VERSION
    assert load("deploy/conda/recipe.yaml")["context"]["version"] == VERSION
    assert re.search(rf"^## \[{re.escape(VERSION)}\] - (unreleased|\d{{4}}-\d\d-\d\d)$", changelog(), re.MULTILINE)


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_has_what_its_format_requires():
    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert all(citation[key] for key in ("message", "title", "authors"))
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_conda_recipe_requires_what_the_wheel_and_its_command_line_require():
    recipe = load("deploy/conda/recipe.yaml")["requirements"]["run"]
    bounds = map(
        Requirement, [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["cli"]]
    )
    assert {line for line in recipe if not line.startswith("python ")} == {
        f"{one.name} {one.specifier}" for one in bounds
    }


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_each_action_by_hash_and_has_no_permissions_by_default(workflow):
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)] == []
    assert yaml.safe_load(text)["permissions"] == {}


def test_an_action_has_one_hash_in_all_workflows():
    used = {action for path in WORKFLOWS for action in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))}
    assert len({action.partition("@")[0] for action in used}) == len(used)


def test_workflows_run_sessions_that_exist_and_every_supported_python():
    ci = load(".github/workflows/ci.yml")["jobs"]
    defined = re.findall(r"^def ([a-z]\w*)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    run = {*ci["checks"]["strategy"]["matrix"]["session"], *re.findall(r"nox --session (\w+)", text)}
    assert run <= {*defined}
    supported = re.findall(r"Python :: (3\.\d+)", str(PROJECT["project"]["classifiers"]))
    assert {*supported} <= {*ci["tests"]["strategy"]["matrix"]["python"]}


def test_the_supported_pythons_of_the_policy_are_those_of_the_project():
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"Each release supports Python (.*?)\. A Python", policy)
    assert re.findall(r"3\.\d+", sentence) == re.findall(r"Python :: (3\.\d+)", str(PROJECT["project"]["classifiers"]))


def test_links_of_the_readme_lead_to_files_of_the_tag_on_a_package_index():
    hook = pytest.importorskip("hatch_build", reason="hatchling is not installed here")
    page = hook.absolute_links(README.read_text(encoding="utf-8"), "https://example.com/fork", "v1.2.3")
    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", page) if not re.match("https?://", link)] == []
    assert "![The live page" in page
    assert "(https://example.com/fork/raw/v1.2.3/docs/images/live-page.png)" in page
    assert "(https://example.com/fork/blob/v1.2.3/docs/guides/calls.md#details-of-a-call)" in page


def test_the_bill_of_materials_names_what_the_wheel_requires_and_carries():
    hook = pytest.importorskip("hatch_build", reason="hatchling is not installed here")
    script = (ROOT / hook.UPLOT).read_text(encoding="utf-8")
    document = hook.bill_of_materials("agora-analytics", VERSION, PROJECT["project"]["dependencies"], script)
    required = {f"pkg:pypi/{Requirement(one).name}" for one in PROJECT["project"]["dependencies"]}
    assert {part["purl"] for part in document["components"]} == {*required, "pkg:npm/uplot@1.6.32"}
    (own,) = document["dependencies"]
    assert own["ref"] == f"pkg:pypi/agora-analytics@{VERSION}"
    assert {*own["dependsOn"]} == {part["bom-ref"] for part in document["components"]}


def test_no_file_of_an_environment_gets_into_a_container_image():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (ROOT / "deploy/container/Containerfile").read_text(), re.MULTILINE
    )
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert {name for line in copied for name in line.split()} == allowed
