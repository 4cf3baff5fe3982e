"""Rejection sampling: which completions are worth imitating, and the data set that they make."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.data.pass_rates import FILE, Rates
from omnithink_pl.distributed.collectives import process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.format import answer_segment
from omnithink_pl.sources.cells import UnusableRow, as_text, is_blank, list_of, text_of
from omnithink_pl.types import Example, Message, State
from omnithink_pl.whole import whole_file, whole_folder

if TYPE_CHECKING:
    from omnithink_pl.grpo.advantage import ScoredGroup
    from omnithink_pl.types import Completion, Range, Score

log = logging.getLogger(__name__)

_THINKING = re.compile(r"<think>(.*?)</think>", re.DOTALL)

Counts = dict[str, Counter[str]]
# Outcomes of completions that are counted, in the order of the table.
COUNTED = (
    "prompts",
    "solved",
    "completions",
    "correct",
    "malformed",
    "repeated",
    "surplus",
    "undefined",
    "failed",
    "kept",
)


@dataclass(frozen=True)
class Selection:
    """Rejection sampling: of the completions of a prompt, the correct ones, without repetitions and not too many.

    Yuan et al. 2023, "Scaling Relationship on Learning Mathematical Reasoning with Large Language Models", section 3.3.

    Args:
        correct: Smallest primary reward of a completion that is kept, which counts as correct; null: whatever the
            reward says, as for a cold start that teaches the form alone, or for answers that others are to be compared
            with (``omnithink_pl.sources.OwnAnswers``).
        per_prompt: Most completions that are kept of one prompt, the first that were drawn; null: all.
        well_formed: Keep only what also has the full format and tags rewards, and neither thinking nor answer blank, so
            that a broken or an empty form is not taught.
    """

    correct: float | None = 1.0
    per_prompt: int | None = 4
    well_formed: bool = True

    def __post_init__(self) -> None:
        if self.per_prompt is not None and self.per_prompt < 1:
            raise BadInput(f"demonstrations.selection.per_prompt is {self.per_prompt}; use 1 or more, or null for all")

    def check(self, ranges: Mapping[str, Range]) -> None:
        """Refuse a ``correct`` that every or no completion of a task reaches, given the ranges of their rewards."""
        for task, (low, high) in ranges.items():
            if self.correct is not None and not low < self.correct <= high:
                raise BadInput(
                    f"demonstrations.selection.correct is {self.correct}; it is a reward of task {task!r}, above "
                    f"{low:g} and at most {high:g}"
                )

    def __call__(self, groups: Sequence[ScoredGroup], opened: str = "") -> tuple[list[dict[str, Any]], Counts]:
        """Return the rows of the completions to keep, and counts of all of them by task.

        A completion that we failed to score is counted as such, and is neither correct nor wrong.

        Args:
            groups: Scored completions.
            opened: What the chat template writes of each answer; thinking that it leaves blank is not the policy's.
        """
        rows: list[dict[str, Any]] = []
        counts: Counts = {}
        for scored in groups:
            count = counts.setdefault(scored.task, Counter())
            verdicts = list(self._verdicts(scored, opened))
            count.update(verdicts)
            kept = [i for i, verdict in enumerate(verdicts) if verdict == "kept"]
            right = sum(self._is_correct(score) for score in scored.scores)
            count.update(prompts=1, completions=len(verdicts), solved=int(right > 0), correct=right)
            rows += [_row(scored, i) for i in kept]
        return rows, counts

    def _is_correct(self, score: Score) -> bool:
        """Return whether it counts as correct; where all are kept, if its reward is the greatest that there is."""
        value = score.primary.value
        least = score.components[0].range[1] if self.correct is None else self.correct
        return score.state is not State.FAILED and value is not None and value >= least

    def _verdicts(self, scored: ScoredGroup, opened: str) -> Iterator[str]:
        seen: set[str] = set()
        for completion, score in zip(scored.group.completions, scored.scores, strict=True):
            verdict = self._verdict(completion, score, opened)
            text = " ".join(completion.text.split())
            if verdict == "kept" and text in seen:
                verdict = "repeated"
            elif verdict == "kept" and self.per_prompt is not None and len(seen) >= self.per_prompt:
                verdict = "surplus"
            elif verdict == "kept":
                seen.add(text)
            yield verdict

    def _verdict(self, completion: Completion, score: Score, opened: str) -> str:
        primary = score.primary
        if self.correct is not None:
            if score.state is State.FAILED:
                return "failed"
            if primary.value is None:
                return "undefined"
            if primary.value < self.correct:
                return "wrong"
        whole = all(component.outcome.value == component.range[1] for component in score.components[1:])
        whole = whole and not _has_blank_segment(completion.text, opened)
        ended = completion.finish_reason == "stop"
        return "kept" if ended and (whole or not self.well_formed) else "malformed"


def _has_blank_segment(text: str, opened: str) -> bool:
    thinking = None if "</think>" in opened else _THINKING.search(text)
    segments = (answer_segment(text), thinking and thinking[1])
    return any(segment is not None and is_blank(segment) for segment in segments)


def _row(scored: ScoredGroup, place: int) -> dict[str, Any]:
    example = scored.group.example
    return {
        "task": example.task,
        "uid": example.uid,
        "messages": [dict(message) for message in example.messages],
        "completion": scored.group.completions[place].text,
        "reward": scored.scores[place].primary.value,
        "sample": place,
    }


def prompts_version(examples: Iterable[Example]) -> str:
    """Hash prompts and references, in their order: templates and sources may change behind equal settings."""
    digest = hashlib.sha256()
    for example in examples:
        parts = (example.task, example.uid, example.messages, example.reference)
        digest.update(repr(parts).encode(errors="backslashreplace"))
    return digest.hexdigest()[:16]


DATASET, COUNTS = "dataset", "counts.json"


class DemonstrationStore:
    """A folder with one file per sampled batch and, once all are there, the data set.

    Args:
        directory: The folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parts = directory / "parts"

    @property
    def dataset(self) -> Path:
        """Folder of the data set."""
        return self.directory / DATASET

    def begin(self, settings: Mapping[str, Any]) -> set[int]:
        """Open the folder, or resume in it.

        Args:
            settings: Everything that the rows depend on; a folder with other settings is refused.

        Returns:
            Numbers of the batches that are stored already.

        Raises:
            BadInput: Names the settings that differ.
        """
        self.parts.mkdir(parents=True, exist_ok=True)
        path = self.directory / "settings.json"
        wanted = json.loads(json.dumps(settings))
        if path.is_file():
            begun = json.loads(path.read_text())
            different = sorted(key for key in wanted.keys() | begun.keys() if wanted.get(key) != begun.get(key))
            if different:
                raise BadInput(
                    f"demonstrations.output: {self.directory} was begun with other settings "
                    f"({', '.join(different)}); choose another folder, or remove this one"
                )
        else:
            _write(path, wanted)
        return {int(part.stem) for part in self.parts.glob("*.json")}

    def add(self, number: int, rows: list[dict[str, Any]], counts: Counts, rates: Rates) -> None:
        """Store the rows of a batch, and the pass rates of its prompts, atomically."""
        _write(self.parts / f"{number:06d}.json", {"rows": rows, "counts": counts, "pass_rates": rates})

    def finish(self) -> Counts:
        """Write the data set, its counts and the pass rates from all batches.

        Returns:
            Counts by task.

        Raises:
            BadInput: If no completion was kept.
        """
        from datasets import Dataset

        rows: list[dict[str, Any]] = []
        counts: Counts = {}
        rates: Rates = {}
        for path in sorted(self.parts.glob("*.json")):
            part = json.loads(path.read_text())
            rows += part["rows"]
            for task, count in part["counts"].items():
                counts.setdefault(task, Counter()).update(count)
            for task, found in part["pass_rates"].items():
                rates.setdefault(task, {}).update(found)
        _write(self.directory / FILE, rates)
        if not rows:
            raise BadInput(
                f"demonstrations: not one completion of {sum(count['completions'] for count in counts.values())} was "
                f"kept; sample more (model.sampling.group_size), or look at them with `main.py score`"
            )
        plain = {task: {name: count[name] for name in COUNTED} for task, count in counts.items()}
        _write(self.directory / COUNTS, plain)
        with whole_folder(self.dataset) as folder:  # last: where it is, everything is
            Dataset.from_list(rows).save_to_disk(folder)
        return counts


def load_demonstrations(
    path: Path, tasks: Collection[str], held_out: Mapping[str, Sequence[Example]] | None = None
) -> list[Example]:
    """Read a data set as examples whose reference is the completion to imitate.

    Args:
        path: What :class:`DemonstrationStore` wrote, its folder or the data set in it; or any data set on disk with
            the columns ``task``, ``messages`` and ``completion``.
        tasks: Tasks of which a stage trains; rows of others are left out.
        held_out: Examples by task that this run measures; rows of their prompts are left out, and counted. They are
            there if more is held out now than when ``predict`` sampled.

    Raises:
        BadInput: If there is no such data set, it lacks a column, or a task has no row, or none left.
    """
    from datasets import Dataset, load_from_disk

    where = path / DATASET if (path / DATASET).is_dir() else path
    try:
        rows = load_from_disk(where)
    except FileNotFoundError as error:
        raise BadInput(
            f"data.demonstrations: {path} holds no data set; make one with `main.py predict --config "
            f"configs/sft_data.yaml`, or let that finish"
        ) from error
    if not isinstance(rows, Dataset) or not {"task", "messages", "completion"} <= set(rows.column_names):
        raise BadInput(f"data.demonstrations: {where} needs the columns task, messages and completion")
    examples = [_example(row, number, where) for number, row in enumerate(rows) if row["task"] in tasks]
    for task, measured in (held_out or {}).items():
        examples = _without(examples, task, measured)
    missing = sorted(set(tasks) - {example.task for example in examples})
    if missing:
        raise BadInput(f"data.demonstrations: {where} has no row of {', '.join(missing)}; leave them out of the stages")
    return examples


def _without(examples: list[Example], task: str, held_out: Sequence[Example]) -> list[Example]:
    """Leave out a task's rows whose prompt is held out: the same message, or the same question behind the same uid.

    A uid alone says nothing where each split counts its rows by itself; a message alone, where options are shuffled by
    another seed or the template is another one.
    """
    prompts = {example.messages[-1]["content"] for example in held_out if example.messages}
    questions = {example.uid: example.question for example in held_out}

    def is_held_out(example: Example) -> bool:
        if example.task != task:
            return False
        prompt, question = example.messages[-1]["content"], questions.get(example.uid.rpartition("#")[0])
        return prompt in prompts or (question is not None and question in prompt)

    kept = [example for example in examples if not is_held_out(example)]
    if len(kept) < len(examples) and process_rank() == 0:
        count = sum(example.task == task for example in examples)
        log.warning(
            "data.demonstrations: %d of %d rows of %s are left out: this run holds their prompts out",
            len(examples) - len(kept), count, task,
        )  # fmt: skip
    return kept


def _example(row: Mapping[str, Any], number: int, where: Path) -> Example:
    try:
        completion = text_of(row, "completion")
        messages: list[Message] = [
            {"role": as_text(message["role"], "messages"), "content": as_text(message["content"], "messages")}
            for message in list_of(row, "messages")
        ]
        if not messages:
            raise UnusableRow("messages", "it is empty; give it the prompt or drop the row")
    except (UnusableRow, KeyError, TypeError) as error:
        raise BadInput(f"data.demonstrations: {where}, row {number}: {error}") from error
    return Example(row["task"], f"{row.get('uid', '')}#{number}", "", completion, tuple(messages))


def _write(path: Path, content: object) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode())
