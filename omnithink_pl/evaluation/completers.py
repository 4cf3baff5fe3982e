"""Where a suite's completions come from: a policy, or the files of an earlier run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.journal import Key, Record, read_records
from omnithink_pl.evaluation.scorer import sample_groups
from omnithink_pl.types import Completion, Example

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine, Sampling


NO_ROOM = Completion((), (), "", "length")
"""Completion of a prompt that leaves no room for an answer in the policy's context."""


@dataclass(frozen=True)
class CompletionRequest:
    """A prompt, and which of its completions are wanted."""

    example: Example  # with its prompt filled in
    turn: int  # 1 or 2
    samples: tuple[int, ...]  # numbers of the completions

    @property
    def keys(self) -> list[Key]:
        """Identities of the completions."""
        return [(self.example.uid, self.turn, sample) for sample in self.samples]


@final
class PolicyCompleter:
    """Samples from a policy.

    A prompt too long for the policy's context gets an empty completion, which counts as wrong.

    Args:
        policy: Encodes the prompts.
        engine: Attached to the policy.
        name: Name of the policy.
        checkpoint: Checkpoint that its weights were loaded from, if not its own.
    """

    def __init__(self, policy: Policy, engine: RolloutEngine, name: str, checkpoint: Path | None = None) -> None:
        self.policy = policy
        self.engine = engine
        # What must be the same for completions to belong together: name and version of the weights.
        self.identity = {"policy": f"{name} {_weights_version(policy, name)}".strip()}
        if checkpoint is not None:
            self.identity["checkpoint"] = f"{checkpoint} {_file_version([checkpoint])}"

    def open(self, suite: str) -> None:
        """Get ready for a suite: sync the engine's weights."""
        self.engine.sync()

    def complete(
        self, requests: Sequence[CompletionRequest], sampling: Sampling, seed: int
    ) -> list[tuple[Completion, ...]]:
        """Sample. Called in every process, even without requests: processes may share the engine."""
        prompts = [self.policy.encode(request.example.messages) for request in requests]
        fit = [i for i, prompt in enumerate(prompts) if len(prompt) + sampling.max_tokens <= self.policy.context]
        examples = [requests[i].example for i in fit]
        groups = sample_groups(self.engine, examples, [prompts[i] for i in fit], sampling, seed)
        completions = {i: group.completions for i, group in zip(fit, groups, strict=True)}
        return [completions.get(i, (NO_ROOM,) * sampling.group_size) for i in range(len(requests))]


@final
class SavedCompletions:
    """Takes completions from the files of an earlier run, to score them again without a policy.

    Args:
        directory: Has a ``<suite>.jsonl`` for each suite.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise BadInput(f"--completions: no directory {str(directory)!r}; give the output of an earlier validate")
        self.directory = directory
        self.identity = {"completions": str(directory.resolve())}
        self._records: Mapping[Key, Record] = {}

    def open(self, suite: str) -> None:
        """Read the suite's file.

        Raises:
            BadInput: If there is none.
        """
        path = self.directory / f"{suite}.jsonl"
        if not path.is_file():
            raise BadInput(f"--completions: no file {path}; run validate for {suite} without --completions first")
        self._records = read_records(path)

    def complete(
        self, requests: Sequence[CompletionRequest], sampling: Sampling, seed: int
    ) -> list[tuple[Completion, ...]]:
        """Look the completions up.

        Raises:
            BadInput: If one is missing.
        """
        return recorded_completions(requests, self._records)


Completer = PolicyCompleter | SavedCompletions


def recorded_completions(
    requests: Sequence[CompletionRequest], records: Mapping[Key, Record]
) -> list[tuple[Completion, ...]]:
    """Return the completions of records, without their token ids.

    Raises:
        BadInput: If one is missing; names its row.
    """
    for uid, turn, sample in (key for request in requests for key in request.keys):
        if (uid, turn, sample) not in records:
            raise BadInput(f"no completion of row {uid}, turn {turn}, sample {sample}; finish the run first")
    found = ([records[key] for key in request.keys] for request in requests)
    return [tuple(Completion((), (), one.completion, one.finish_reason) for one in own) for own in found]


def _weights_version(policy: Policy, name: str) -> str:
    """Return the hub's commit of a policy, or a hash of its files' sizes and times."""
    commit = getattr(policy.model.config, "_commit_hash", None)
    directory = Path(name).expanduser()
    return str(commit) if commit else _file_version(sorted(directory.glob("*"))) if directory.is_dir() else ""


def _file_version(files: Sequence[Path]) -> str:
    """Return a hash that changes when one of the files does."""
    marks = "\n".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)
    return hashlib.sha256(marks.encode()).hexdigest()[:16]
