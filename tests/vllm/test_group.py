"""With a process group that was there before the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_group_stays_the_default_one_and_sharded_weights_arrive_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vllm.grouped", str(tmp_path / "store")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("all of it\n"), done.stderr
    assert done.returncode == 0


def test_two_ranks_that_share_an_engine_each_get_their_own_share() -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "tests.vllm.teamed"]
    done = subprocess.run([sys.executable, *launcher], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all of it") == 2
