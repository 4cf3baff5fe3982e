"""Whatever writes the policy's weights says so: an engine that loads each version once never samples from old ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from main import main
from omnithink_pl.model.policy import Policy, named_weights
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.rollout.base import Finished
from omnithink_pl.types import Completion
from tests.judge.adapted import check_that_the_base_judges

SETTINGS = [
    "fit",
    "--name=short",
    "--curriculum.stages=[{tasks: {qa: 1}, steps: 3}, {tasks: {math: 1}, steps: 2}]",
    "--model.engine=tests.rollout.test_weights_version.VersionedEngine",
    "--model.adapter={rank: 2, alpha: 8}",
    "--model.optimizer.init_args.lr=0.01",
    "--model.sampling.group_size=2",
    "--model.rollouts.updates_per_batch=2",
    "--model.rollouts.refill_rounds=2",
    "--data.batch_size=2",
    "--validation.every_n_steps=1",
    "--validation.min_delta=1",  # nothing is ever better: the weights of a stage's first step are restored
    "--validation.continue_from=best",
    "--validation.evaluator.prompts=2",
    "--validation.evaluator.samples=1",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=1",
    "--checkpoints.every_n_steps=1",
]


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


@pytest.mark.slow
def test_updates_restored_weights_and_checkpoints_are_new_versions(tmp_path: Path, tracking_uri: str) -> None:
    """The engine itself refuses to sample where its weights are not the policy's."""
    settings = [
        *SETTINGS,
        f"--trainer.default_root_dir={tmp_path}",
        f"--trainer.logger.init_args.tracking_uri={tracking_uri}",
    ]
    engine = main(settings).model.engine
    # Attached; one sync a step, of two updates; the restored weights of each stage.
    assert engine.loads == 1 + (3 + 1) + (2 + 1)
    assert engine.skipped > 5, "evaluations, and rounds that replace groups"


def test_a_judging_base_model_and_the_adapters_after_it_are_new_versions() -> None:
    check_that_the_base_judges(VersionedEngine)
