"""The verb ``score``: a user's file of completions, scored with the rewards of the tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import lightning as L
from rich.console import Console

from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.report.console import reward_summary, reward_table
from omnithink_pl.rewards.code import reference_defect
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.sources.base import Split
from omnithink_pl.tasks.base import Task
from omnithink_pl.tracking.adapters import run_artifacts
from omnithink_pl.tracking.artifacts import rollout_table
from omnithink_pl.types import Completion, Example, Group, Options, Reference, UnitTests


def score(trainer: L.Trainer, model: L.LightningModule, datamodule: MultiTaskData, completions: str) -> None:
    """Score completions from a file with the rewards of a config, and print them; loads no policy.

    Args:
        trainer: Has the loggers.
        model: Not used; Lightning's command line passes it.
        datamodule: Has the tasks.
        completions: A JSON-lines file. Each row has ``task``, ``completion``, and either the ``uid`` of an
            example or its ``question`` and ``reference``.
    """
    try:
        groups = score_completions(Path(completions), datamodule.tasks, datamodule.seed)
    finally:
        datamodule.teardown("score")
    console = Console()
    console.print(reward_table(groups))
    console.print(reward_summary(groups))
    for logger, run in run_artifacts(trainer).items():
        run.describe({"kind": "score"}, name="score")
        run.table(rollout_table(groups, 0), "scores.json")
        console.print(f"also in run {run.place}, artifact scores.json", highlight=False)
        logger.finalize("success")


def score_completions(path: Path, tasks: Mapping[str, Task], seed: int) -> list[ScoredGroup]:
    """Score every completion of a file: one group per row, in the order of the file, without advantages.

    Each line is a JSON object that names the example it answers, by ``uid`` or in full::

        {"task": "math", "uid": "586fd646", "completion": "<think>...</think><answer>17</answer>"}
        {"task": "math", "question": "What is 1 + 1?", "reference": "2", "completion": "..."}

    A reference is text; for options ``{"options": [...], "answers": [...]}``; for programs
    ``{"inputs": [...], "outputs": [...]}`` or ``{"functional": "...", "entry_point": "..."}``.

    Raises:
        BadInput: If the file or a row cannot be used; names the line.
    """
    groups = list(_groups(path, tasks, seed))
    if not groups:
        raise BadInput(f"completions: {path} has no rows")
    scores = score_batch(groups, {name: task.rubric for name, task in tasks.items()})
    return [ScoredGroup(group, tuple(row), (None,)) for group, row in zip(groups, scores, strict=True)]


def _groups(path: Path, tasks: Mapping[str, Task], seed: int) -> Iterator[Group]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: texts hold other separators unescaped
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"completions: cannot read {path}: {error}") from error
    by_uid: dict[str, dict[str, Example]] = {}  # examples of the tasks met so far
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("completion"), str):
            raise BadInput(f"{where}: a row is an object with the text of a 'completion'")
        if not isinstance(row.get("task"), str) or row["task"] not in tasks:
            raise BadInput(f"{where}: task {row.get('task')!r} is unknown; choose from {sorted(tasks)}")
        task, uid = row["task"], str(row.get("uid", f"line {number}"))
        if "question" in row or "reference" in row:
            if not isinstance(row.get("question"), str):
                raise BadInput(f"{where}: 'question' is missing; give it along with 'reference'")
            question, reference = row["question"], _reference(row.get("reference"), where)
            example = Example(task, uid, question, reference, ({"role": "user", "content": question},))
        else:
            if task not in by_uid:
                by_uid[task] = {e.uid: e for split in get_args(Split) for e in tasks[task].examples(split, seed)}
            if uid not in by_uid[task]:
                raise BadInput(
                    f"{where}: data.tasks.{task} has no example {row.get('uid')!r}; give a uid of its source, or "
                    f"'question' and 'reference'"
                )
            example = by_uid[task][uid]
        yield Group(example, (), (Completion((), (), row["completion"], "stop"),))


def _reference(given: object, where: str) -> Reference:
    if isinstance(given, str):
        return given
    if not isinstance(given, dict):
        raise BadInput(
            f"{where}: 'reference' is text, or an object with options and answers, inputs and outputs, or functional "
            f"and entry_point"
        )
    try:
        if "options" in given:
            return Options(_texts(given["options"]), _texts(given["answers"]))
        if "functional" in given:
            tests = UnitTests(functional=str(given["functional"]), entry_point=str(given["entry_point"]))
        else:
            tests = UnitTests(_texts(given["inputs"]), _texts(given["outputs"]))
    except KeyError as error:
        raise BadInput(f"{where}: 'reference' lacks {error}") from error
    except TypeError as error:
        raise BadInput(f"{where}: 'reference': {error}") from error
    if defect := reference_defect(tests):
        raise BadInput(f"{where}: 'reference': {defect}")
    return tests


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list of texts")
    return tuple(map(str, values))
