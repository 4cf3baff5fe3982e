"""Completions from a file, scored by the rewards that training would use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.errors import BadInput
from omnithink_pl.modules.scored import ScoredGroup
from omnithink_pl.rewards.batch import score_batch
from omnithink_pl.types import Completion, Example, Group, Message, Options, Reference, UnitTests

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split
    from omnithink_pl.tasks.base import Task


def score_completions(path: Path, tasks: Mapping[str, Task], seed: int) -> list[ScoredGroup]:
    """Score every completion of a file; no policy is needed.

    A row is a JSON object on a line of its own. It says which example it answers, by ``uid`` or in full::

        {"task": "math", "uid": "586fd646", "completion": "<think>...</think><answer>17</answer>"}
        {"task": "math", "question": "What is 1 + 1?", "reference": "2", "completion": "..."}

    A reference is text; for options ``{"options": [...], "answers": [...]}``; for programs
    ``{"inputs": [...], "outputs": [...]}`` or ``{"functional": "...", "entry_point": "..."}``.

    Args:
        path: The file.
        tasks: The tasks by name, with their rewards and the examples that a ``uid`` refers to.
        seed: Of the examples' prompts.

    Returns:
        One group of one completion per row, in the order of the file, without advantages.

    Raises:
        BadInput: Names the line and what is wrong with it.
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
    known: dict[str, dict[str, Example]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = _row(line, tasks, where)
        task = row["task"]
        if "question" in row or "reference" in row:
            example = _example(row, where)
        else:
            if task not in known:
                splits: tuple[Split, ...] = ("train", "test")
                known[task] = {e.uid: e for split in splits for e in tasks[task].examples(split, seed)}
            example = _found(row, known[task], where)
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


def _found(row: Mapping[str, Any], examples: Mapping[str, Example], where: str) -> Example:
    uid = str(row.get("uid"))
    if uid not in examples:
        raise BadInput(
            f"{where}: data.tasks.{row['task']} has no example {uid!r}; give a uid of its source, or 'question' and "
            f"'reference'"
        )
    return examples[uid]


def _example(row: Mapping[str, Any], where: str) -> Example:
    question = row.get("question")
    if not isinstance(question, str):
        raise BadInput(f"{where}: 'question' is missing; give it along with 'reference'")
    uid = str(row.get("uid", where.rpartition(", ")[2]))
    asked: Message = {"role": "user", "content": question}
    return Example(row["task"], uid, question, _reference(row, where), (asked,))


def _reference(row: Mapping[str, Any], where: str) -> Reference:
    reference = row.get("reference")
    if isinstance(reference, str):
        return reference
    try:
        if isinstance(reference, dict) and "options" in reference:
            return Options(_texts(reference["options"]), _texts(reference["answers"]))
        if isinstance(reference, dict) and "functional" in reference:
            return UnitTests(functional=str(reference["functional"]), entry_point=str(reference["entry_point"]))
        if isinstance(reference, dict):
            return UnitTests(_texts(reference["inputs"]), _texts(reference["outputs"]))
    except KeyError as error:
        raise BadInput(f"{where}: 'reference' lacks {error}") from error
    except TypeError as error:
        raise BadInput(f"{where}: 'reference': {error}") from error
    raise BadInput(
        f"{where}: 'reference' is text, or an object with options and answers, inputs and outputs, or functional and "
        f"entry_point"
    )


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list of texts")
    return tuple(map(str, values))
