"""A policy's own earlier answers as references, such as the base model's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.format import extract_answer
from omnithink_pl.sources.base import Source, Split, text_uid
from omnithink_pl.sources.cells import UnusableRow, as_text, optional_text_of, text_defect, text_of
from omnithink_pl.types import Example

log = logging.getLogger(__name__)


@final
class OwnAnswers(Source):
    """Prompts whose reference is what a policy once answered, for a task that compares an answer with its reference.

    Omni-Think's section 3.1 compares a text with the model's "earlier responses", its section 4.4 with the reference of
    the data set. This is the former; it also serves prompts without references.

    A row, as ``predict`` writes it: ``{"task": "writing", "uid": "5f0c", "messages": [..., {"role": "user", "content":
    "Write three sentences about Mia."}], "completion": "<think>...</think><answer>One day Mia ...</answer>"}``. The
    reference is the answer segment, without the thinking; the first such completion of a prompt counts, and a prompt
    without one is left out. A hash of the question decides which prompts are held out, whatever the seed.

    Args:
        path: Folder that ``predict`` wrote (``configs/paper/own_answers_data.yaml``).
        held_out: Prompts to hold out, at most a fifth of all.
    """

    def __init__(self, path: str, held_out: int = 256) -> None:
        self.path = Path(path).expanduser()
        self.held_out = held_out

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the answered prompts of a task."""
        found: dict[str, Example] = {}
        asked: set[str] = set()
        for number, row in self._rows(task):
            try:
                uid, question, completion = _parse(row)
            except (UnusableRow, KeyError, IndexError, TypeError) as error:
                raise BadInput(
                    f"OwnAnswers: {self.path}, row {number}: {error}; let `predict` write it anew"
                ) from error
            asked.add(uid)
            answer = extract_answer(completion)
            if answer and not text_defect(answer) and uid not in found:
                found[uid] = Example(task, uid, question, answer)
        if not found:
            raise BadInput(f"OwnAnswers: {self.path} has no answer to a prompt of {task}; let `predict` sample more")
        if split == "train" and (unanswered := len(asked) - len(found)):
            log.warning("OwnAnswers: %d of %d prompts of %s have no answer: left out", unanswered, len(asked), task)
        ranked = sorted(found.values(), key=lambda example: text_uid(example.question or ""))
        held_out = {example.uid for example in ranked[: min(self.held_out, len(found) // 5)]}
        return [example for uid, example in found.items() if (uid in held_out) == (split == "test")]

    def _rows(self, task: str) -> list[tuple[int, dict[str, Any]]]:
        from datasets import Dataset, load_from_disk

        try:
            rows = load_from_disk(self.path / "dataset")
        except FileNotFoundError as error:
            raise BadInput(
                f"OwnAnswers: {self.path} holds no data set; make one with `main.py predict --config "
                f"configs/paper/own_answers_data.yaml`, or let that finish"
            ) from error
        assert isinstance(rows, Dataset)
        return [(number, dict(row)) for number, row in enumerate(rows) if row["task"] == task]


def _parse(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a row's uid, question and completion; the last may be empty."""
    uid, question = text_of(row, "uid"), as_text(row["messages"][-1]["content"], "messages")
    return uid, question, optional_text_of(row, "completion")
