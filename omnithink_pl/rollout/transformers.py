"""The rollout engine over transformers: it samples from the very model that is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import Policy
from omnithink_pl.model.precision import computing
from omnithink_pl.model.products import prepared_weights
from omnithink_pl.model.randomness import eval_mode
from omnithink_pl.model.sharding import whole
from omnithink_pl.rollout.base import DecodingRequest, Finished, RequestBatch, Sampling, check_prompts
from omnithink_pl.rollout.decoding import decode
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
        """Set the policy to sample from."""
        self._policy = policy

    def sync(self) -> None:
        """Do nothing: the engine reads the policy's own weights."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        partial: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Sample completions; see ``RolloutEngine.generate``."""
        if self._policy is None:
            raise RuntimeError("TransformersEngine.generate before attach; call attach(policy) once")
        check_prompts(prompts, sampling, self._policy.context)
        batch = RequestBatch(self._policy, prompts, sampling, partial, finished, max_copies=self.batch_rows)
        model = self._policy.model
        with (
            torch.no_grad(),
            computing(model, self._policy.compute),
            eval_mode(model),
            whole(model),
            prepared_weights(model),
        ):
            for chunk in self._chunks(batch.requests):
                noise = [_request_noise(request, seeds[request.prompt], sampling) for request in chunk]
                for index, completions in decode(self._policy, [one.tokens for one in chunk], noise, sampling):
                    batch.add(chunk[index], completions)
        return batch.groups()

    def _chunks(self, requests: Sequence[DecodingRequest]) -> Iterator[list[DecodingRequest]]:
        """Yield requests that are decoded together, of similar length to save padding.

        Partial completions are not decoded beside new prompts: one cache is equally long for all of its rows, and short
        rows beside long ones cost more than a larger batch saves.
        """
        chunk: list[DecodingRequest] = []
        for request in sorted(requests, key=lambda r: (r.generated > 0, len(r.tokens))):
            full = sum(other.copies for other in chunk) + request.copies > self.batch_rows
            if chunk and (full or (request.generated > 0) != (chunk[0].generated > 0)):
                yield chunk
                chunk = []
            chunk.append(request)
        if chunk:
            yield chunk


def _request_noise(request: DecodingRequest, seed: int, sampling: Sampling) -> Tensor:
    """Return the noise of a request's completions; where a completion was cut makes no difference to it."""
    rows = slice(request.first, request.first + request.copies)
    return uniform_noise(seed, sampling)[rows, request.generated : request.generated + request.max_new_tokens]


def uniform_noise(seed: int, sampling: Sampling) -> Tensor:
    """Return the noise of a prompt's completions: uniform in [0, 1), float64 of shape [group_size, max_tokens]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((sampling.group_size, sampling.max_tokens), generator=generator, dtype=torch.float64)
