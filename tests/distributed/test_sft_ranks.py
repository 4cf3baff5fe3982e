"""Processes that divide each batch of demonstrations train adapters as one with the whole batch, sharded or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.distributed.ranks import DDP, EQUAL, FAR, QA, SHARDED, checkpoint, distance, keeping, put_kept, run

pytestmark = pytest.mark.slow
SETTINGS = [
    "fit",
    "--config=configs/sft.yaml",
    "--name=short",
    "--trainer.accelerator=cpu",
    "--trainer.logger=false",
    f"--data.tasks!={QA}",
    "--data.batch_size=4",
    "--curriculum.stages=[{tasks: {qa: 1}, steps: 3}]",
    "--model.adapter={rank: 4, alpha: 16}",
    "--model.memory.offload_optimizer=true",  # moves nothing on a CPU, but its hooks run
    "--model.memory.micro_batch_tokens=64",  # processes differ in their number of micro-batches
    "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.2, momentum: 0.9}}",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=1",
    "--evaluation.evaluator.max_tokens=4",
    "--checkpoints.every_n_steps=1",
    "--checkpoints.save_policy=false",
]


def demonstrations(path: Path) -> str:
    """Completions of one to twelve words."""
    rows = [
        {
            "task": "qa",
            "uid": f"row {number}",
            "messages": [{"role": "user", "content": "What comes next? " * (1 + number % 3)}],
            "completion": " ".join(["one", "two", "three"][: 1 + number % 3] * (1 + number % 4)),
        }
        for number in range(12)
    ]
    Dataset.from_list(rows).save_to_disk(path)
    return f"--data.demonstrations={path}"


def largest_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Between weights and momenta of two runs that have done the same steps."""
    assert ours["steps_done"] == theirs["steps_done"]
    states = [one["optimizer_states"][0]["state"] for one in (ours, theirs)]
    assert states[0].keys() == states[1].keys() == ours["state_dict"].keys()
    return max(
        distance(ours["state_dict"], theirs["state_dict"]),
        *(distance(states[0][name], states[1][name]) for name in states[0]),
    )


def resumed(before: Path, directory: Path, step: int, *arguments: str) -> dict[str, Any]:
    """Continue in two processes from what another run had kept; the last checkpoint."""
    put_kept(before, directory, step)
    assert run(directory, *arguments, "--ckpt_path=last", ranks=2, settings=SETTINGS) == [0, 0]
    return checkpoint(directory)


def test_two_sharded_processes_go_on_as_one_would_have_and_two_that_are_not_sharded_after_them(tmp_path: Path) -> None:
    shown = demonstrations(tmp_path / "shown")
    one, sharded, not_sharded = (tmp_path / name for name in ("one", "sharded", "not sharded"))
    assert run(one, shown, keeping(1), settings=SETTINGS) == [0]
    whole = checkpoint(one)
    assert whole["steps_done"] == 3
    assert max(float(value.abs().max()) for name, value in whole["state_dict"].items() if "lora_B" in name) > FAR
    assert largest_difference(resumed(one, sharded, 1, *SHARDED, shown, keeping(2)), whole) < EQUAL
    assert largest_difference(resumed(sharded, not_sharded, 2, *DDP, shown), whole) < EQUAL
