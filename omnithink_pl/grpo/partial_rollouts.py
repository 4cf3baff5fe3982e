"""Rollouts that outlive a step: asynchronous rewards, partial rollouts, and their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, final

import torch

from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Completion, Example, Group

if TYPE_CHECKING:
    from omnithink_pl.rewards.scoring import BatchScoring
    from omnithink_pl.rollout.base import Sampling


@dataclass(frozen=True)
class Rollouts:
    """Groups that have been sampled, and whose rewards are on their way.

    Args:
        step: The step that they are for, zero-based.
        sampled_at: Steps that the policy which sampled them had been trained.
        groups: Those that are complete, in the order in which they were asked for.
        scoring: Their rewards.
    """

    step: int
    sampled_at: int
    groups: list[Group]
    scoring: BatchScoring


def pack(groups: Sequence[Group]) -> dict[str, Any]:
    """Groups as plain values and few tensors, exactly.

    Returns:
        Token ids (int64) and log-probabilities (float64) of all completions, one behind the other, and what divides
        them. Examples are named, not kept.
    """
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
    """The groups that were packed.

    Args:
        packed: By :func:`pack`.
        examples: By their keys.

    Raises:
        BadInput: If an example is no longer there.
    """
    missing = [key for key in packed["keys"] if key not in examples]
    if missing:
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


@dataclass(frozen=True)
class Begun:
    """A group that is being sampled.

    Args:
        group: With its completions so far; without any where it is new.
        seed: What it is sampled with, in every step.
    """

    group: Group
    seed: int

    def at(self, completions: tuple[Completion, ...]) -> Begun:
        """The same with further completions."""
        return replace(self, group=replace(self.group, completions=completions))

    def is_complete(self, sampling: Sampling) -> bool:
        """Whether nothing is left to be drawn after a call that was to draw so."""
        return sampling.segment is None or not any(map(sampling.is_open, self.group.completions))

    def by_earlier_policy(self) -> Begun:
        """The same, where the policy has been trained since."""
        return self.at(tuple(replace(c, earlier=len(c.token_ids)) for c in self.group.completions))


@final
class Carried:
    """What each step leaves to the next, divided anew among the processes, so that each has as many as the others."""

    def __init__(self) -> None:
        self.left = 0  # groups of all processes that the last step sampled leaves to the next
        self._begun: dict[int, list[Begun]] = {}
        self._packed: list[dict[str, Any]] = []

    def take(self, step: int) -> list[Begun]:
        """What a step goes on with, the same however often it is asked for: a step may be taken again."""
        self._begun, self.left = {s: begun for s, begun in self._begun.items() if s >= step}, 0
        return [one.by_earlier_policy() for one in self._begun.get(step, ())]

    def leave(self, step: int, own: Sequence[Begun]) -> int:
        """Let a step go on with groups; all processes must call it.

        Args:
            step: The step that goes on.
            own: This process's groups.

        Returns:
            How many there are over all processes.
        """
        everyone = gather_rows(list(own))
        self._begun[step] = everyone[process_rank() :: process_count()]
        self.left = len(everyone)
        return self.left

    def state_dict(self, steps_done: int) -> list[dict[str, Any]]:
        """What steps that are not finished go on with; all processes must call it."""
        everyone = {step: gather_rows(begun) for step, begun in sorted(self._begun.items()) if step >= steps_done}
        return self._packed + [
            {"step": step, "seeds": [one.seed for one in begun], "groups": pack([one.group for one in begun])}
            for step, begun in everyone.items()
            if begun
        ]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on from there, once :meth:`unpack` is given the examples."""
        self._packed = list(state)

    @property
    def is_packed(self) -> bool:
        """Whether there is something that still lacks its examples."""
        return bool(self._packed)

    def unpack(self, examples: Mapping[str, Example]) -> None:
        """Find the examples of what a checkpoint held."""
        for one in self._packed:
            begun = map(Begun, unpack(one["groups"], examples), one["seeds"])
            self._begun[one["step"]] = list(begun)[process_rank() :: process_count()]
        self._packed = []
