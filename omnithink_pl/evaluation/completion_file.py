"""A user's file of completions, scored with the rewards of the tasks for the verb ``score``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.types import Completion, Example, Group, Message, Options, Reference, UnitTests

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split
    from omnithink_pl.tasks.base import Task


def score_completions(path: Path, tasks: Mapping[str, Task], seed: int) -> list[ScoredGroup]:
    """Score every completion of a file; no policy is needed.

    Each line is a JSON object that names the example it answers, by ``uid`` or in full::

        {"task": "math", "uid": "586fd646", "completion": "<think>...</think><answer>17</answer>"}
        {"task": "math", "question": "What is 1 + 1?", "reference": "2", "completion": "..."}

    A reference is text; for options ``{"options": [...], "answers": [...]}``; for programs
    ``{"inputs": [...], "outputs": [...]}`` or ``{"functional": "...", "entry_point": "..."}``.

    Args:
        path: The file.
        tasks: The tasks by name, with their rewards and the examples that a ``uid`` refers to.
        seed: Seed of the examples' prompts.

    Returns:
        One group of one completion per row, in the order of the file, without advantages.

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
        row = _row(line, tasks, where)
        task = row["task"]
        if "question" in row or "reference" in row:
            example = _own_example(row, where)
        else:
            if task not in by_uid:
                splits: tuple[Split, ...] = ("train", "test")
                by_uid[task] = {e.uid: e for split in splits for e in tasks[task].examples(split, seed)}
            example = _source_example(row, by_uid[task], where)
        yield Group(example, (), (Completion((), (), row["completion"], "stop"),))


def _row(line: str, tasks: Mapping[str, Task], where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("completion"), str):
        raise BadInput(f"{where}: a row is an object with the text of a 'completion'")
    if not isinstance(row.get("task"), str) or row["task"] not in tasks:
        raise BadInput(f"{where}: task {row.get('task')!r} is unknown; choose from {sorted(tasks)}")
    return row


def _source_example(row: Mapping[str, Any], examples: Mapping[str, Example], where: str) -> Example:
    """Return the example of the task's source that a row names by ``uid``."""
    uid = str(row.get("uid"))
    if uid not in examples:
        raise BadInput(
            f"{where}: data.tasks.{row['task']} has no example {uid!r}; give a uid of its source, or 'question' and "
            f"'reference'"
        )
    return examples[uid]


def _own_example(row: Mapping[str, Any], where: str) -> Example:
    """Return the example that a row gives in full; without a ``uid`` it is called by its line."""
    question = row.get("question")
    if not isinstance(question, str):
        raise BadInput(f"{where}: 'question' is missing; give it along with 'reference'")
    uid = str(row.get("uid", where.rpartition(", ")[2]))
    message: Message = {"role": "user", "content": question}
    return Example(row["task"], uid, question, _reference(row.get("reference"), where), (message,))


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
            return UnitTests(functional=str(given["functional"]), entry_point=str(given["entry_point"]))
        return UnitTests(_texts(given["inputs"]), _texts(given["outputs"]))
    except KeyError as error:
        raise BadInput(f"{where}: 'reference' lacks {error}") from error
    except TypeError as error:
        raise BadInput(f"{where}: 'reference': {error}") from error


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list of texts")
    return tuple(map(str, values))
