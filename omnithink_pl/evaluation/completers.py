"""Where a benchmark's completions come from: a policy, or a file of an earlier run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.journal import Journal, Key, Record
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.types import Completion, Example

if TYPE_CHECKING:
    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine

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
        """The completions of each prompt, in order; ``sampling.n`` of each."""
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
        completions = [(NO_ROOM,) * sampling.n for _ in asks]
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
