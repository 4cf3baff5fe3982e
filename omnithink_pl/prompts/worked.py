"""Worked examples: questions with answers in the wanted form, shown before a question (few-shot prompting)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.cells import UnusableRow, as_text
from omnithink_pl.types import Message

_COLUMNS = ("task", "user", "assistant")


def load_worked_examples(name: str) -> dict[str, tuple[Message, ...]]:
    """Return the turns of each task's examples, in the order of the file.

    Args:
        name: Of a packaged file without its suffix, such as ``worked_v1``; or the path of a ``.jsonl`` file with rows
            ``{"task": "math", "user": "How much is 2 + 3?", "assistant": "<think>...</think><answer>5</answer>"}``.

    Raises:
        BadInput: If there is no such file, or a row is not of that form; names it.
    """
    packaged = files(__package__ or "") / f"{name}.jsonl"
    source = packaged if packaged.is_file() else Path(name).expanduser()
    if not source.is_file():
        raise BadInput(f"model.worked_examples: no file {name!r}; give the path of a .jsonl file, or worked_v1")
    found: dict[str, list[Message]] = {}
    for number, line in enumerate(source.read_bytes().splitlines(), 1):  # bytes: a text may hold other line ends
        try:
            task, *texts = (as_text(json.loads(line.decode())[column], column) for column in _COLUMNS)
        except (ValueError, KeyError, TypeError, UnusableRow) as error:
            raise BadInput(
                f"model.worked_examples: {source}, line {number}: {error!r}; it needs {', '.join(_COLUMNS)}"
            ) from error
        turns = zip(_COLUMNS[1:], texts, strict=True)
        found.setdefault(task, []).extend({"role": role, "content": text} for role, text in turns)
    return {task: tuple(turns) for task, turns in found.items()}


def with_worked_examples(messages: Sequence[Message], turns: Sequence[Message]) -> tuple[Message, ...]:
    """Return a chat with earlier turns behind its system prompt."""
    system = [message for message in messages if message["role"] == "system"]
    return (*system, *turns, *messages[len(system) :])
