"""The three commands of docs/own_task.md: from a clone, fifty rows and a model's directory to a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STARTER = """#!{python}
import sys
sys.path[:0] = [{site!r}, {clone!r}]
from omnithink.main import command
command()
"""


def commands() -> list[str]:
    """The commands below the heading, as a reader would type them."""
    page = (ROOT / "docs" / "own_task.md").read_text().partition("three commands\n")[2]
    block = page.partition("```console\n")[2].partition("```")[0]
    return re.findall(r"^\$ (.+)$", re.sub(r"\\\n *", "", block), re.MULTILINE)


def stand_in_for_setup(clone: Path, site: Path) -> None:
    """What ``make setup`` leaves, without a download: the command, run by this interpreter."""
    site.mkdir()
    (site / "omnithink").symlink_to(clone)
    starter = clone / ".venv" / "bin" / "omnithink"
    starter.parent.mkdir(parents=True)
    starter.write_text(STARTER.format(python=sys.executable, site=str(site), clone=str(clone)))
    starter.chmod(0o755)


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone, so that there is nothing to clone")
def test_three_commands_without_python_lead_from_a_clone_to_a_run(tmp_path: Path) -> None:
    rows, model = tmp_path / "rows.jsonl", tmp_path / "model"
    rows.write_text("".join(json.dumps({"prompt": f"What is {n} + {n}?", "answer": 2 * n}) + "\n" for n in range(50)))
    shutil.copytree(str(files("omnithink_pl.embedded") / "policy"), model)
    clone, setup, fit = commands()
    clone = re.sub(r"https://\S+", str(ROOT), clone)
    fit = fit.replace("/data/rows.jsonl", str(rows)).replace("/models/mine", str(model))
    small = " --curriculum.stages.0.steps=2 --evaluation.evaluator.prompts=2"
    small += " --model.sampling.max_tokens=16 --evaluation.evaluator.max_tokens=16"  # of a context of 192 tokens
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def shell(line: str, folder: Path) -> str:
        done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    shell(clone, tmp_path)
    assert setup == "make setup"
    stand_in_for_setup(tmp_path / "omni-think", tmp_path / "site")
    shown = shell(fit + small, tmp_path / "omni-think")
    assert "own: 2 steps" in shown
    assert list(tmp_path.glob("omni-think/outputs/own/*/policy/model.safetensors"))
