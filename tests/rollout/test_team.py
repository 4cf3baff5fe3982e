"""Ranks that share an engine ask it the same, in the same order, and take their own share back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm.engine import Team

ROOT = Path(__file__).resolve().parents[2]


def test_two_ranks_ask_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.rollout.teams"]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    first, second = (json.loads(process.communicate()[0]) for process in processes)
    different = [["p", 1], ["q", 2], ["r", 3]]
    same = [["p", 1], ["q", 2]]
    assert first["shared"] == [[different, [0, 1]], [same, [0, 1]], [[["p", 1], ["p", 2]], []]]
    assert second["shared"] == [[different, [2]], [same, [0, 1]], [[["p", 1], ["p", 2]], [0, 1]]]
    assert (first["alone"], second["alone"]) == ([same, [0, 1]], [[["r", 3]], [0]])
    assert "tensor_parallel_size is 3, and 2 processes train" in first["refused"]


def test_a_team_needs_its_processes() -> None:
    with pytest.raises(BadInput, match="tensor_parallel_size is 2, and 1 processes train; take a divisor"):
        Team(2).form()
    assert Team(1).gather(["a", "b", "a"]) == (["a", "b"], [0, 1, 0])
