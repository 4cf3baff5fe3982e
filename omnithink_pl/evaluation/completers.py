"""Where a benchmark's completions come from: a policy, or a file of an earlier run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.journal import Journal, Key, Record
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.types import Completion, Example, Group, Message, Options, Reference, UnitTests

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.sources.base import Split
    from omnithink_pl.tasks.base import Task


NO_ROOM = Completion((), (), "", "length")
"""Of a prompt that leaves no room for an answer in the policy's context."""


@dataclass(frozen=True)
class Ask:
    """A prompt, and which of its completions are wanted.

    Args:
        example: With its prompt.
        turn: 1 or 2.
        samples: Numbers of the completions.
    """

    example: Example
    turn: int
    samples: tuple[int, ...]

    @property
    def keys(self) -> list[Key]:
        """Of the completions."""
        return [(self.example.uid, self.turn, sample) for sample in self.samples]


class Completer(Protocol):
    """Answers prompts."""

    def identity(self) -> dict[str, str]:
        """What must be the same for completions to belong together."""
        ...

    def open(self, benchmark: str) -> None:
        """Called before the first prompt of a benchmark."""
        ...

    def complete(self, asks: Sequence[Ask], sampling: Sampling, seed: int) -> list[tuple[Completion, ...]]:
        """The completions of each prompt, in order; ``sampling.group_size`` of each."""
        ...


@final
class PolicyCompleter:
    """Samples from a policy.

    A prompt too long for the policy's context gets no answer: an empty completion, which is wrong.

    Args:
        policy: Encodes the prompts.
        engine: Attached to it.
        name: Of the policy.
        checkpoint: Whose weights it has, if not its own.
    """

    def __init__(self, policy: Policy, engine: RolloutEngine, name: str, checkpoint: Path | None = None) -> None:
        self.policy = policy
        self.engine = engine
        self._identity = {"policy": f"{name} {weights_version(policy, name)}".strip()}
        if checkpoint is not None:
            self._identity["checkpoint"] = f"{checkpoint} {file_version([checkpoint])}"

    def identity(self) -> dict[str, str]:
        """Name and version of the weights."""
        return self._identity

    def open(self, benchmark: str) -> None:
        """Take over the weights."""
        self.engine.sync()

    def complete(self, asks: Sequence[Ask], sampling: Sampling, seed: int) -> list[tuple[Completion, ...]]:
        """Sample. An engine that several processes share is asked by all of them, whether they have prompts or not."""
        prompts = [self.policy.encode(ask.example.messages) for ask in asks]
        fit = [i for i, prompt in enumerate(prompts) if len(prompt) + sampling.max_tokens <= self.policy.context]
        seeds = keyed_seeds((asks[i].example.key for i in fit), seed)
        drawn = self.engine.generate([prompts[i] for i in fit], sampling, seeds)
        completions = [(NO_ROOM,) * sampling.group_size for _ in asks]
        for i, own in zip(fit, drawn, strict=True):
            completions[i] = own
        return completions


@final
class SavedCompletions:
    """Takes completions from the files of an earlier run, so that they are scored again without a policy.

    Args:
        directory: Has a ``<benchmark>.jsonl`` for each.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise BadInput(f"--completions: no directory {str(directory)!r}; give the output of an earlier validate")
        self.directory = directory
        self._records: Mapping[Key, Record] = {}

    def identity(self) -> dict[str, str]:
        """Where they come from."""
        return {"completions": str(self.directory.resolve())}

    def open(self, benchmark: str) -> None:
        """Read the file.

        Raises:
            BadInput: If there is none.
        """
        path = self.directory / f"{benchmark}.jsonl"
        if not path.is_file():
            raise BadInput(f"--completions: no file {path}; run validate for {benchmark} without --completions first")
        self._records = Journal(path).read()

    def complete(self, asks: Sequence[Ask], sampling: Sampling, seed: int) -> list[tuple[Completion, ...]]:
        """Look up.

        Raises:
            BadInput: If one is missing.
        """
        return from_records(asks, self._records)


def from_records(asks: Sequence[Ask], records: Mapping[Key, Record]) -> list[tuple[Completion, ...]]:
    """The completions of records.

    Raises:
        BadInput: If one is missing; names its row.
    """
    for key in (key for ask in asks for key in ask.keys):
        if key not in records:
            raise BadInput(f"no completion of row {key[0]}, turn {key[1]}, sample {key[2]}; finish the run first")
    return [tuple(records[key].sampled for key in ask.keys) for ask in asks]


def weights_version(policy: Policy, name: str) -> str:
    """The hub's commit of a policy, or a hash of its files' sizes and times."""
    commit = getattr(policy.model.config, "_commit_hash", None)
    directory = Path(name).expanduser()
    return str(commit) if commit else file_version(sorted(directory.glob("*"))) if directory.is_dir() else ""


def file_version(files: Sequence[Path]) -> str:
    """Changes when one of the files does."""
    marks = "\n".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)
    return hashlib.sha256(marks.encode()).hexdigest()[:16]


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
