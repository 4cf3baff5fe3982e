"""A rollout engine over transformers: samples from the very model that is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.base import check_prompts
from omnithink_pl.rollout.decoding import decode
from omnithink_pl.sharding import whole

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import Finished, Sampling
    from omnithink_pl.types import Completion


class TransformersEngine:
    """Prefills each prompt once for its completions, then decodes all rows on one cache.

    Args:
        batch_rows: Completions that are decoded at the same time; bounds the memory of the cache. The
            result does not depend on it but for rounding, for every row has its own noise.
    """

    def __init__(self, batch_rows: int = 256) -> None:
        if batch_rows < 1:
            raise BadInput(f"model.engine.init_args.batch_rows is {batch_rows}; it is at least 1")
        self.batch_rows = batch_rows
        self._policy: Policy | None = None

    def attach(self, policy: Policy) -> None:
        """Take the policy to sample from."""
        self._policy = policy

    def sync(self) -> None:
        """Nothing to do: the engine reads the policy's own weights."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Draw ``sampling.n`` completions for each prompt, as ``RolloutEngine.generate`` has it.

        Raises:
            RuntimeError: Before ``attach``.
            ValueError: If a prompt is empty or leaves no room for ``max_tokens`` in the context.
        """
        if self._policy is None:
            raise RuntimeError("TransformersEngine.generate before attach; call attach(policy) once")
        check_prompts(prompts, sampling, self._policy.context)
        drawn: list[list[Completion]] = [[] for _ in prompts]
        with torch.no_grad(), _eval_mode(self._policy.model), whole(self._policy.model):
            for rows, first in self._chunks(prompts, sampling.n):
                noise = draw_noise([seeds[row] for row in rows], sampling)[:, first : first + self.batch_rows]
                for place, completions in decode(self._policy, [prompts[row] for row in rows], noise, sampling):
                    row = rows[place]
                    drawn[row] += completions
                    if finished is not None and len(drawn[row]) == sampling.n:
                        finished(row, tuple(drawn[row]))
        return [tuple(completions) for completions in drawn]

    def _chunks(self, prompts: Sequence[Sequence[int]], n: int) -> Iterator[tuple[list[int], int]]:
        """Prompts that are decoded together, and the first of their completions.

        Prompts of like length share a chunk, which saves padding. Only when ``n`` alone exceeds
        ``batch_rows`` are a prompt's completions divided.
        """
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        size = max(1, self.batch_rows // n)
        for start in range(0, len(order), size):
            for first in range(0, n, self.batch_rows):
                yield order[start : start + size], first


def draw_noise(seeds: Sequence[int], sampling: Sampling) -> Tensor:
    """What the tokens of each prompt's completions are drawn with, from the prompt's own seed.

    Returns:
        Uniform in [0, 1), float64, of shape [seeds, n, max_tokens].
    """
    shape = (sampling.n, sampling.max_tokens)
    own = (torch.Generator().manual_seed(seed) for seed in seeds)
    return torch.stack([torch.rand(shape, generator=generator, dtype=torch.float64) for generator in own])


@contextmanager
def _eval_mode(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off for the while; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
