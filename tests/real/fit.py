"""Two real steps of a real model on four tasks, and on a fifth that gives a gradient whatever the model can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from main import CONFIGS, main
from omnithink_pl.modules import MultiTaskGRPO

STEPS = 2

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


def fit(policy: Path, directory: Path, tracking_uri: str, *arguments: str) -> MultiTaskGRPO:
    """Train with ``configs/real/smollm2.yaml`` and further arguments; everything is written below the directory."""
    letters = directory / "letters.yaml"
    table = f"{{class_path: omnithink_pl.sources.Table, init_args: {{path: {directory}/letters.jsonl}}}}"
    reward = f"{__name__}.different_letters"
    task = f"{{class_path: omnithink_pl.tasks.Custom, init_args: {{source: {table}, reward: {reward}}}}}"
    letters.write_text(f"data: {{tasks: {{letters: {task}}}}}")
    cli = main(
        [
            "fit",
            f"--config={CONFIGS}/real/smollm2.yaml",
            f"--config={letters}",
            f"--model.policy={policy}",
            *sources(directory),
            f"--curriculum.stages=[{{tasks: {{code: 1, math: 1, qa: 1, writing: 1, letters: 1}}, steps: {STEPS}}}]",
            *("--data.batch_size=5", "--model.sampling.group_size=2", "--model.sampling.max_tokens=24"),
            *("--model.kl.beta=0.0", "--model.rollouts.refill_rounds=0", "--torch_threads=1"),
            *("--evaluation.evaluator.prompts=1", "--evaluation.evaluator.samples=1"),
            f"--trainer.default_root_dir={directory}",
            f"--trainer.logger.init_args.tracking_uri={tracking_uri}",
            *arguments,
        ]
    )
    assert cli is not None
    assert isinstance(cli.model, MultiTaskGRPO)
    assert cli.model.steps_done == STEPS
    assert {group.task for group in cli.model.last_rollouts} == {*ROWS, "letters"}
    return cli.model
