"""A suite's completions: sampled from a policy or taken from an earlier run, and journaled with their verdicts.

The journal is a file with one JSON object per line, appended chunk by chunk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.scorer import sample_groups
from omnithink_pl.model.fingerprint import files_version, policy_version
from omnithink_pl.model.policy import Policy
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.types import Completion, Example, FinishReason

# Completion of a prompt that leaves no room for an answer in the policy's context.
NO_ROOM = Completion((), (), "", "length")
Key = tuple[str, int, int]  # uid, turn, sample: identifies a completion of a suite


@dataclass(frozen=True)
class Record:
    """One completion with its verdict."""

    task: str  # whose rewards scored it
    uid: str
    turn: int  # 1, or 2 for the answer that follows the policy's own first answer
    sample: int  # number among the completions of its prompt
    category: str
    completion: str  # text
    tokens: int  # length
    finish_reason: FinishReason
    state: str  # `value`, `undefined` or `failed`
    value: float | None  # if the state is `value`
    reason: str  # why there is none otherwise

    @property
    def key(self) -> Key:
        """Identity of the completion within its suite."""
        return self.uid, self.turn, self.sample


def read_records(path: Path) -> dict[Key, Record]:
    """Return the records of a file by key; the last of several with one key, since it was scored again.

    A last line without a newline was torn by a kill and is ignored.

    Raises:
        BadInput: If the file cannot be read, or another line is not a record; names it.
    """
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    found: dict[Key, Record] = {}
    # Not splitlines: completions may hold other separators unescaped.
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            record = Record(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            raise BadInput(f"{path}, line {number}: no record of a benchmark ({error}); delete it") from error
        found[record.key] = record
    return found


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append records and flush them to disk, so that a kill loses no more than the chunk in progress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # torn by a kill
                file.truncate(path.read_bytes().rfind(b"\n") + 1)
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


Completions = list[tuple[Completion, ...]]  # by request


@dataclass(frozen=True)
class Request:
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
    """Samples from a policy, to which the engine is attached.

    A prompt too long for the policy's context gets an empty completion, which counts as wrong. ``checkpoint`` is the
    one that the weights were loaded from, if not the policy's own.
    """

    def __init__(self, policy: Policy, engine: RolloutEngine, name: str, checkpoint: Path | None = None) -> None:
        self.policy = policy
        self.engine = engine
        # What must be the same for completions to belong together: name and version of the weights, and the prompts.
        self.identity = {"policy": f"{name} {policy_version(name)}"}
        if policy.chat_template_kwargs:
            self.identity["chat_template_kwargs"] = json.dumps(dict(policy.chat_template_kwargs), sort_keys=True)
        if checkpoint is not None:
            self.identity["checkpoint"] = f"{checkpoint} {files_version([checkpoint])}"

    def open(self, suite: str) -> None:
        """Get ready for a suite: sync the engine's weights."""
        self.engine.sync()

    def complete(self, requests: Sequence[Request], sampling: Sampling, seed: int) -> Completions:
        """Sample. Called in every process, even without requests: processes may share the engine."""
        prompts = [self.policy.encode(request.example.messages) for request in requests]
        fit = [i for i, prompt in enumerate(prompts) if len(prompt) + sampling.max_tokens <= self.policy.context]
        examples = [requests[i].example for i in fit]
        groups = sample_groups(self.engine, examples, [prompts[i] for i in fit], sampling, seed)
        completions = {i: group.completions for i, group in zip(fit, groups, strict=True)}
        return [completions.get(i, (NO_ROOM,) * sampling.group_size) for i in range(len(requests))]


@final
class SavedCompletions:
    """Takes completions from the files of an earlier run, to score them again without a policy."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise BadInput(f"--completions: no directory {str(directory)!r}; give the output of an earlier validate")
        self.directory = directory
        self.identity = {"completions": str(directory.resolve())}
        self._records: Mapping[Key, Record] = {}

    def open(self, suite: str) -> None:
        """Read the suite's file, ``<suite>.jsonl``."""
        path = self.directory / f"{suite}.jsonl"
        if not path.is_file():
            raise BadInput(f"--completions: no file {path}; run validate for {suite} without --completions first")
        self._records = read_records(path)

    def complete(self, requests: Sequence[Request], sampling: Sampling, seed: int) -> Completions:
        """Look the completions up."""
        return recorded_completions(requests, self._records)


Completer = PolicyCompleter | SavedCompletions


def recorded_completions(requests: Sequence[Request], records: Mapping[Key, Record]) -> Completions:
    """Return the completions of records, without their token ids; refuse a request that has none."""
    for uid, turn, sample in (key for request in requests for key in request.keys):
        if (uid, turn, sample) not in records:
            raise BadInput(f"no completion of row {uid}, turn {turn}, sample {sample}; finish the run first")
    found = ([records[key] for key in request.keys] for request in requests)
    return [tuple(Completion((), (), one.completion, one.finish_reason) for one in own) for own in found]
