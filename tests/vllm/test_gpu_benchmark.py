"""Stage B of ``benchmarks.gpu`` in miniature: the engine, and a run that is killed and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.vllm.processes import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow


def test_every_measurement_of_stage_b_runs() -> None:
    names = ["decoding/eager", "parity/float32", "sleep", "sync", "fit"]
    command = [sys.executable, "-m", "benchmarks.gpu", "--size=mini", "--minutes=20", "--device=cpu", "--only", *names]
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row for row in rows if "error" in row] == []

    def of(name: str) -> list[dict]:
        return [row for row in rows if row["measurement"] == name and "took" not in row]

    assert of("parity/float32")[0]["largest"] < 1e-3
    assert of("decoding/eager")[1]["ms_per_token"] > 0
    assert len(of("sync")) == 3
    assert of("sleep/level_2")[0]["equal"]
    assert "wake_seconds" in of("sleep/level_1")[0]
    killed, resumed, *steps = of("fit")
    assert 3 <= killed["killed_after_steps"] <= 5
    assert (resumed["resumed_exit_code"], resumed["steps"]) == (0, 5)
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    assert all(step["train/logprob_diff_mean"] < 1e-4 for step in steps)
