"""What ``pip install .`` installs: the command, its configs, and no package that could get in the way of others'."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_versions import SHIPPED

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contents of the wheel, as pip would unpack them."""
    pytest.importorskip(
        "setuptools", minversion="77", reason="the wheel is built by the setuptools of this environment"
    )
    built, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in SHIPPED:  # not in place: a build leaves files behind
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, source / name)
    build = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(built)], cwd=source, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(built / "site")
    return built / "site"


def run(site: Path, folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, with nothing of ours to be found but the unpacked wheel."""
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_two_packages_and_neither_tests_nor_the_build_script(site: Path) -> None:
    top = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"omnithink", "omnithink_pl"}
    assert {path.name for path in (site / "omnithink").iterdir()} == {"main.py", "callbacks", "configs"}
    for folder, pattern in (("configs", "*.yaml"), ("callbacks", "*.py")):
        ours = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob(pattern)}
        assert {
            path.relative_to(site / "omnithink" / folder) for path in (site / "omnithink" / folder).rglob("*.*")
        } == ours
    library = {path.relative_to(ROOT) for path in (ROOT / "omnithink_pl").rglob("*") if path.is_file()}
    shipped = {path.relative_to(site) for path in (site / "omnithink_pl").rglob("*") if path.is_file()}
    assert {path for path in library - shipped if path.suffix != ".pyc"} == set()


def test_the_command_is_declared(site: Path) -> None:
    (entries,) = site.glob("*.dist-info/entry_points.txt")
    assert "omnithink = omnithink.main:command" in entries.read_text().splitlines()


@pytest.mark.slow
def test_the_installed_command_trains_outside_of_a_checkout_beside_a_package_named_callbacks(
    site: Path, tmp_path: Path
) -> None:
    (tmp_path / "callbacks.py").write_text("raise SystemExit('the user's own callbacks were imported')")
    program = "import sys; sys.argv[0] = 'omnithink'; from omnithink.main import command; command()"
    stages = "--curriculum.stages=[{tasks: {math: 1}, steps: 1}]"
    small = ["--evaluation.evaluator.prompts=2", "--evaluation.evaluator.samples=1", "--data.batch_size=2"]
    done = run(site, tmp_path, program, "fit", "--config", "configs/single_math.yaml", stages, *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlflow.db").is_file()
    assert list(tmp_path.glob("outputs/single_math/*/policy/model.safetensors"))
    listed = run(site, tmp_path, program, "study", "--config=configs/studies/paper.yaml", "--dry_run")
    assert listed.returncode == 0, listed.stderr
    assert "omnithink fit --config=configs/" in listed.stdout


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Its cells in order; ``omnithink`` is this checkout, by the name that it has once installed."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "omnithink").symlink_to(ROOT)
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "clear the outputs: they are the reader's own"
    program = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "work").mkdir()
    done = run(f"{tmp_path / 'site'}{os.pathsep}{ROOT}", tmp_path / "work", program)
    assert done.returncode == 0, done.stderr
    assert "forgotten {'math':" in done.stdout
    assert (tmp_path / "work" / "mlflow.db").is_file()
