"""pyproject.toml, environment.yml and README.md ask for the same versions, and those are installed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import omnithink_pl

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {found.name: found for found in map(Requirement, PROJECT["dependencies"])}
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]

# What a wheel is built from.
SHIPPED = ("omnithink_pl", "callbacks", "configs", "main.py", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def conda_packages() -> dict[str, str]:
    """Name to version, or to an empty string."""
    return dict(entry.partition("=")[::2] for entry in ENVIRONMENT if isinstance(entry, str))


def conda_pip() -> list[str]:
    return next(entry["pip"] for entry in ENVIRONMENT if isinstance(entry, dict))


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_installed_versions_satisfy_pyproject(name: str) -> None:
    assert REQUIREMENTS[name].specifier.contains(version(name))


def test_conda_python_is_one_that_pyproject_accepts() -> None:
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda_packages()["python"])


def test_conda_installs_this_project_and_pins_as_pyproject_does() -> None:
    project, pins = conda_pip()[-1], [Requirement(line) for line in conda_pip()[:-1]]
    assert project == "-e ."
    assert {pin.name: pin.specifier for pin in pins} == {pin.name: REQUIREMENTS[pin.name].specifier for pin in pins}
    assert "torch" in {pin.name for pin in pins}


def test_readme_table_gives_the_versions_of_pyproject() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| `([^`]+)` \|", README, flags=re.MULTILINE))
    assert {name: SpecifierSet(text) for name, text in rows.items() if name != "python"} == {
        name: REQUIREMENTS[name].specifier for name in rows if name != "python"
    }
    assert SpecifierSet(rows["python"]) == SpecifierSet(PROJECT["requires-python"])
    assert {"python", "torch", "transformers", "lightning", "mlflow", "jsonargparse"} <= rows.keys()


def test_the_images_take_the_versions_of_pyproject_and_makefile_and_all_that_a_wheel_is_built_from() -> None:
    dockerfile, makefile = (ROOT / "Dockerfile").read_text(), (ROOT / "Makefile").read_text()
    assert {f"=={found}" for found in re.findall(r"torch==([\w.]+)", dockerfile)} == {
        str(REQUIREMENTS["torch"].specifier)
    }
    assert set(re.findall(r"vllm==([\w.]+)", dockerfile)) == set(re.findall(r"^VLLM := (.+)$", makefile, re.MULTILINE))
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    assert copied == set(SHIPPED)
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(sent) == copied


def test_changelog_and_citation_name_the_version_of_the_package() -> None:
    assert f"## [{omnithink_pl.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == omnithink_pl.__version__


def test_compromised_lightning_releases_are_refused() -> None:
    allowed = REQUIREMENTS["lightning"].specifier
    assert not allowed.contains("2.6.2")
    assert not allowed.contains("2.6.3")


def test_linters_of_pre_commit_are_those_of_make_check() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"] for repo in hooks for hook in repo["hooks"]]
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    tools = re.findall(r"\$\(BIN\)/(\w+)", check)
    assert {entry.removeprefix(".venv/bin/").split()[0] for entry in entries} == set(tools)
