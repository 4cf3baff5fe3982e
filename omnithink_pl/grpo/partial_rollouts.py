"""Rollouts that outlive a step: asynchronous rewards, partial rollouts, and their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, final

import torch

from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.scoring import BatchScoring
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.types import Completion, Example, Group


@dataclass(frozen=True)
class Rollouts:
    """Complete groups whose rewards are being computed."""

    step: int  # the step that they are for, zero-based
    sampled_at: int  # training steps of the policy that sampled them
    groups: list[Group]  # in the order in which they were requested
    scoring: BatchScoring  # their rewards


@dataclass(frozen=True)
class PartialGroup:
    """A group that is being sampled."""

    group: Group  # with its completions so far; without any where it is new
    seed: int  # what it is sampled with, in every step

    def with_completions(self, completions: tuple[Completion, ...]) -> PartialGroup:
        """Return the group with further completions."""
        return replace(self, group=replace(self.group, completions=completions))

    def is_complete(self, sampling: Sampling) -> bool:
        """Return whether a call with this sampling has left no completion unfinished."""
        return sampling.segment is None or not any(map(sampling.is_open, self.group.completions))


@dataclass(frozen=True)
class BegunRollouts:
    """Groups that an engine samples beside the trainer."""

    step: int  # the step that they are for, zero-based
    sampled_at: int  # training steps of the policy
    groups: list[PartialGroup]  # without completions
    scoring: BatchScoring  # of those that have been sampled
    completions: Future[list[tuple[Completion, ...]]]  # of each group


@final
class PartialRollouts:
    """Unfinished groups that each step leaves to the next, balanced anew among the processes."""

    def __init__(self) -> None:
        self.count = 0  # unfinished groups of all processes after the last sampled step
        self._groups: dict[int, list[PartialGroup]] = {}  # by the step that continues them
        self.packed: list[dict[str, Any]] = []  # from a checkpoint, still without their examples

    def take(self, step: int) -> list[PartialGroup]:
        """Return the groups that a step continues, the same however often it is asked: a step may be repeated."""
        self._groups, self.count = {s: groups for s, groups in self._groups.items() if s >= step}, 0
        return [  # all that they have was sampled before the policy's last update
            one.with_completions(tuple(replace(c, earlier=len(c.token_ids)) for c in one.group.completions))
            for one in self._groups.get(step, ())
        ]

    def put(self, step: int, own: Sequence[PartialGroup]) -> int:
        """Have a step continue this process's groups, and return how many all have; all processes must call it."""
        everyone = gather_rows(list(own))
        self._groups[step] = everyone[process_rank() :: process_count()]
        self.count = len(everyone)
        return self.count

    def state_dict(self, steps_done: int) -> list[dict[str, Any]]:
        """Return the groups that unfinished steps continue; all processes must call it."""
        everyone = {step: gather_rows(groups) for step, groups in sorted(self._groups.items()) if step >= steps_done}
        return self.packed + [
            {"step": step, "seeds": [one.seed for one in groups], "groups": pack([one.group for one in groups])}
            for step, groups in everyone.items()
            if groups
        ]

    def unpack(self, examples: Mapping[str, Example]) -> None:
        """Restore the groups of a checkpoint, given the examples by their keys."""
        for one in self.packed:
            groups = map(PartialGroup, unpack(one["groups"], examples), one["seeds"])
            self._groups[one["step"]] = list(groups)[process_rank() :: process_count()]
        self.packed = []


def pack(groups: Sequence[Group]) -> dict[str, Any]:
    """Convert groups to plain values and few tensors, without loss; examples are named by their keys."""
    completions = [completion for group in groups for completion in group.completions]
    return {
        "keys": [group.example.key for group in groups],
        "prompts": [list(group.prompt_ids) for group in groups],
        "sizes": [len(group.completions) for group in groups],
        "lengths": [len(completion.token_ids) for completion in completions],
        "tokens": torch.tensor(list(chain.from_iterable(c.token_ids for c in completions)), dtype=torch.long),
        "logprobs": torch.tensor(list(chain.from_iterable(c.logprobs for c in completions)), dtype=torch.float64),
        "texts": [completion.text for completion in completions],
        "finish_reasons": [completion.finish_reason for completion in completions],
        "earlier": [completion.earlier for completion in completions],
    }


def unpack(packed: Mapping[str, Any], examples: Mapping[str, Example]) -> list[Group]:
    """Convert packed groups back, given the examples by their keys.

    Raises:
        BadInput: If an example is no longer there.
    """
    if missing := [key for key in packed["keys"] if key not in examples]:
        raise BadInput(
            f"--ckpt_path: its rollouts answer {missing[0]}, which data.tasks no longer has; use the same data, or "
            f"start anew without --ckpt_path"
        )
    tokens, logprobs = iter(packed["tokens"].tolist()), iter(packed["logprobs"].tolist())
    rest = zip(*(packed[name] for name in ("lengths", "texts", "finish_reasons", "earlier")), strict=True)
    completions = (
        Completion(tuple(islice(tokens, length)), tuple(islice(logprobs, length)), text, reason, earlier)
        for length, text, reason, earlier in rest
    )
    rows = zip(packed["keys"], packed["prompts"], packed["sizes"], strict=True)
    return [Group(examples[key], tuple(prompt), tuple(islice(completions, size))) for key, prompt, size in rows]
