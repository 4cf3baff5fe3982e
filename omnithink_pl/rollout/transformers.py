"""A rollout engine over transformers: samples from the very model that is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.model.sharding import whole
from omnithink_pl.rollout.base import check_prompts
from omnithink_pl.rollout.decoding import Harvest, Stem, decode

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from omnithink_pl.model.policy import Policy
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
        begun: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Draw ``sampling.group_size`` completions for each prompt, as ``RolloutEngine.generate`` has it.

        Raises:
            RuntimeError: Before ``attach``.
            ValueError: If a prompt is empty or leaves no room for ``max_tokens`` in the context.
        """
        if self._policy is None:
            raise RuntimeError("TransformersEngine.generate before attach; call attach(policy) once")
        check_prompts(prompts, sampling, self._policy.context)
        harvest = Harvest(self._policy, prompts, sampling, begun, finished, most=self.batch_rows)
        with torch.no_grad(), _eval_mode(self._policy.model), whole(self._policy.model):
            for chunk in self._chunks(harvest.stems):
                noise = [_noise_of(stem, seeds[stem.place], sampling) for stem in chunk]
                for place, completions in decode(self._policy, [stem.tokens for stem in chunk], noise, sampling):
                    harvest.put(chunk[place], completions)
        return harvest.groups()

    def _chunks(self, stems: Sequence[Stem]) -> Iterator[list[Stem]]:
        """Stems that are decoded together; those of like length are, which saves padding.

        What goes on is not decoded beside what begins: one cache is as long for all of its rows, and short completions
        beside long ones cost more than a few rows more save.
        """
        for new in (True, False):
            chunk: list[Stem] = []
            for stem in sorted((s for s in stems if (s.drawn == 0) is new), key=lambda stem: len(stem.tokens)):
                if chunk and sum(one.copies for one in chunk) + stem.copies > self.batch_rows:
                    yield chunk
                    chunk = []
                chunk.append(stem)
            if chunk:
                yield chunk


def _noise_of(stem: Stem, seed: int, sampling: Sampling) -> Tensor:
    """What a stem's copies go on with: the noise of a completion does not depend on where it was cut."""
    rows = slice(stem.first, stem.first + stem.copies)
    return draw_noise([seed], sampling)[0, rows, stem.drawn : stem.drawn + stem.room]


def draw_noise(seeds: Sequence[int], sampling: Sampling) -> Tensor:
    """What the tokens of each prompt's completions are drawn with, from the prompt's own seed.

    Returns:
        Uniform in [0, 1), float64, of shape [seeds, n, max_tokens].
    """
    shape = (sampling.group_size, sampling.max_tokens)
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
