"""A real pretrained model passes the checks at a run's start, is trained on four tasks, saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from main import CONFIGS, main
from omnithink_pl.modules import MultiTaskGRPO

pytestmark = pytest.mark.slow

# Rows in the shape of the open sets of configs/real/.
ROWS: dict[str, list[dict[str, Any]]] = {
    "code": [
        {
            "task_id": number,
            "text": f"Write a function to add {number} to a number.",
            "code": f"def add_{number}(x):\n    return x + {number}",
            "test_list": [f"assert add_{number}({x}) == {x + number}" for x in (1, 2, 5)],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for number in (601, 602, 603, 604, 11, 12)
    ],
    "math": [
        {"question": f"Ann has {n} apples and buys 2 more. How many has she?", "answer": f"{n} + 2\n#### {n + 2}"}
        for n in range(6)
    ],
    "qa": [
        {"question": f"Which number is {n}?", "subject": "none", "choices": [str(n), "ten", "many", "no"], "answer": 0}
        for n in range(6)
    ],
    "writing": [
        {"instruction": f"Pretend you are a sailor on ship {n}.", "input": "", "response": f"Ahoy from ship {n}!"}
        for n in range(6)
    ],
}


def different_letters(completion: str, reference: Any) -> float:
    """A reward that differs between any two completions of a model that has no task right yet."""
    return len(set(completion)) / 200


def sources(directory: Path) -> list[str]:
    arguments = []
    for task, rows in ROWS.items():
        file = directory / f"{task}.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        arguments.append(f"--data.tasks.{task}.init_args.source.init_args.path={file}")
    questions = [{"question": f"Say {letter}.", "reference": letter} for letter in "abcdef"]
    (directory / "letters.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in questions))
    return arguments


def test_real_steps_with_all_rewards_change_the_weights_which_are_saved_as_they_are(
    model_directory: Path, tmp_path: Path, tracking_uri: str
) -> None:
    letters = tmp_path / "letters.yaml"
    rows = f"{{class_path: omnithink_pl.sources.Table, init_args: {{path: {tmp_path}/letters.jsonl}}}}"
    reward = "tests.real.test_smollm2.different_letters"
    task = f"{{class_path: omnithink_pl.tasks.Custom, init_args: {{source: {rows}, reward: {reward}}}}}"
    letters.write_text(f"data: {{tasks: {{letters: {task}}}}}")
    cli = main(
        [
            "fit",
            f"--config={CONFIGS}/real/smollm2.yaml",
            f"--config={letters}",
            f"--model.policy={model_directory}",
            *sources(tmp_path),
            "--curriculum.stages=[{tasks: {code: 1, math: 1, qa: 1, writing: 1, letters: 1}, steps: 2}]",
            *("--data.batch_size=5", "--model.sampling.group_size=2", "--model.sampling.max_tokens=24"),
            *("--model.kl.beta=0.0", "--model.rollouts.refill_rounds=0", "--torch_threads=1"),
            *("--evaluation.evaluator.prompts=1", "--evaluation.evaluator.samples=1"),
            f"--trainer.default_root_dir={tmp_path}",
            f"--trainer.logger.init_args.tracking_uri={tracking_uri}",
        ]
    )
    assert cli is not None
    model = cli.model
    assert isinstance(model, MultiTaskGRPO)
    assert model.steps_done == 2
    assert {group.task for group in model.last_rollouts} == {*ROWS, "letters"}

    (saved,) = (path for path in tmp_path.rglob("policy") if not path.is_symlink())
    text = AutoTokenizer.from_pretrained(saved).encode("The sea was calm, and", return_tensors="pt")
    with torch.no_grad():
        trained = model.policy.model(text).logits
        reloaded, base = (AutoModelForCausalLM.from_pretrained(path)(text).logits for path in (saved, model_directory))
    torch.testing.assert_close(reloaded, trained, atol=1e-4, rtol=0)
    assert (reloaded - base).abs().max() > 1e-4
