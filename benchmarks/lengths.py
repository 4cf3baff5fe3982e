"""Completions of planned lengths, so that two trainers do the same amount of work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST = 2  # the first token is drawn before a row of its own exists


def log_normal(rows: int, median: float, sigma: float, longest: int, seed: int) -> Iterator[list[int]]:
    """Lengths of batch after batch: most are short, some very long, as those of a reasoning policy are."""
    rng = random.Random(seed)
    while True:
        drawn = [round(median * rng.lognormvariate(0.0, sigma)) for _ in range(rows)]
        yield [min(max(length, SHORTEST), longest) for length in drawn]


def fixed(rows: int, length: int) -> Iterator[list[int]]:
    """Every completion as long as every other."""
    while True:
        yield [length] * rows


class PlannedLengths:
    """Lets a model end each row of a batch at its planned length, and not before.

    It watches the forwards that use a cache, which are those of sampling. Rows that have ended may leave the batch.

    Args:
        model: A causal language model.
        stop: The token that ends a completion.
        plans: Lengths of the rows of each batch, at least 2 each.
    """

    def __init__(self, model: PreTrainedModel, stop: int, plans: Iterator[list[int]]) -> None:
        self.stop = stop
        self.plans = plans
        self.rows: list[int] = []
        self.step = 0
        model.register_forward_hook(self._end, with_kwargs=True)

    def _end(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if kwargs.get("past_key_values") is None:
            return
        logits = output.logits[:, -1]
        if kwargs["input_ids"].shape[1] > 1:
            self.rows, self.step = next(self.plans), 0
        self.step += 1
        if self.step > 1 and len(logits) < len(self.rows):
            self.rows = [length for length in self.rows if length >= self.step]
        logits[:, self.stop] = -torch.inf
        if self.step == 1:
            return
        if len(logits) != len(self.rows):
            raise RuntimeError(f"{len(logits)} rows are sampled where {len(self.rows)} were planned")
        ending = torch.tensor(self.rows, device=logits.device) == self.step
        logits[ending] = -torch.inf
        logits[ending, self.stop] = 0.0
