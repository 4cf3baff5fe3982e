"""An engine with weights of its own, as far as a test can tell."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from omnithink_pl.model.policy import Policy, named_weights
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.rollout.base import Finished
from omnithink_pl.types import Completion


class VersionedEngine:
    """Loads each version of the weights once, and refuses to sample where those it holds are not the policy's."""

    def __init__(self) -> None:
        self.engine = TransformersEngine()
        self.version: int | None = None
        self.loads = self.skipped = 0

    def attach(self, policy: Policy) -> None:
        self.policy, self.version = policy, None
        self.engine.attach(policy)
        self.sync()

    def sync(self) -> None:
        if self.version == self.policy.version:
            self.skipped += 1
            return
        self.version, self.held = self.policy.version, self.digest()
        self.loads += 1

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        partial: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        assert self.held == self.digest(), f"the weights are no longer those of version {self.version}"
        return self.engine.generate(prompts, sampling, seeds, finished, partial)

    @torch.no_grad()
    def digest(self) -> str:
        digest = hashlib.sha256()
        for name, weight in named_weights(self.policy.model):
            digest.update(name.encode() + weight.numpy().tobytes())
        return digest.hexdigest()
