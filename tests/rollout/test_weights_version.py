"""Whatever writes the policy's weights says so: an engine that loads each version once never samples from old ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from main import main

pytestmark = pytest.mark.slow

QA, WRITING = "{tasks: {qa: 1}, steps: 3}", "{tasks: {writing: 1}, steps: 2}"
SETTINGS = [
    "fit",
    "--name=short",
    "--model.engine=tests.rollout.versioned.VersionedEngine",
    "--model.adapter={rank: 2, alpha: 8}",
    "--model.optimizer.init_args.lr=0.01",
    "--model.sampling.group_size=2",
    "--model.rollouts.updates_per_batch=2",
    "--model.rollouts.refill_rounds=2",
    "--data.batch_size=2",
    "--data.tasks.writing.init_args.judge={class_path: omnithink_pl.judge.model.ModelJudge, init_args: {base: true}}",
    "--validation.every_n_steps=1",
    "--validation.min_delta=1",  # nothing is ever better: the weights of a stage's first step are restored
    "--validation.continue_from=best",
    "--validation.evaluator.prompts=2",
    "--validation.evaluator.samples=1",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=1",
    "--checkpoints.every_n_steps=1",
]


def test_updates_restored_weights_a_judging_base_model_and_checkpoints_are_new_versions(
    tmp_path: Path, tracking_uri: str
) -> None:
    """The engine itself refuses to sample where its weights are not the policy's."""
    settings = [
        *SETTINGS,
        f"--trainer.default_root_dir={tmp_path}",
        f"--trainer.logger.init_args.tracking_uri={tracking_uri}",
    ]
    first = main([*settings, f"--curriculum.stages=[{QA}]"]).model.engine
    # Attached, then two updates a step but one sync each; the restored weights.
    assert first.loads == 1 + 3 + 1
    assert first.skipped > 3, "evaluations, and rounds that replace groups"
    resumed = main([*settings, f"--curriculum.stages=[{QA}, {WRITING}]", "--ckpt_path=last"]).model.engine
    assert resumed.loads > 4
