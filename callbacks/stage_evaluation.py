"""Evaluates all tasks before training and after each stage, and keeps the score matrix."""

from __future__ import annotations

import json
from functools import partial
from math import isnan
from typing import Any

import lightning as L
import torch

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.evaluation.evaluator import Evaluator, Sample, evaluation_metrics, sample_columns
from omnithink_pl.tracking.adapters import run_artifacts

from .lookups import StageCallback, data_of, module_of

_SAMPLES = 8  # completions of each task that are shown


class StageEvaluation(L.Callback):
    """Measures the rows of the score matrix: row 0 is the base model, row k the policy after stage k.

    The curriculum has each row measured, between the last step of a stage and anything of the next.

    Args:
        evaluator: How many held-out prompts and samples, and how they are drawn.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.matrix = ScoreMatrix()
        self.evaluating = False
        self.samples: dict[str, list[Sample]] = {}  # greedy completions of the last evaluation, by task

    def measure(self, trainer: L.Trainer, run: StageRun) -> None:
        """Evaluate all tasks, add the row to the matrix and log it.

        Raises:
            RewardFailure: If too many completions could not be scored.
        """
        module, data = module_of(trainer), data_of(trainer)
        self.evaluating = True
        with module.barrier.guard():
            own = self.evaluator.measure(
                module.policy, module.engine, data.tasks, data.held_out, module.seed, partial(_tell, trainer, run)
            )
        results = self.evaluator.conclude(own, module.monitor.policy.max_rate)
        self.evaluating = False
        unscored = {name: why for name, result in results.items() if (why := result.unscored)}
        module.monitor.tolerate_unscored(unscored, run.number)
        label = f"{run.number} {run.name}" if run.number else "base"
        # Of the rows before: where storing this one failed, a resumed run measures it again.
        before = ScoreMatrix(self.matrix.labels[: run.number], self.matrix.rows[: run.number])
        self.matrix = before.add(label, {name: result.score for name, result in results.items()})
        metrics = evaluation_metrics(self.matrix, [list(stage.tasks) for stage in run.plan])
        metrics = {name: value for name, value in metrics.items() if not isnan(value)}
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=module.steps_done)
        self.samples = {name: result.samples(_SAMPLES) for name, result in results.items()}
        for artifacts in run_artifacts(trainer).values():
            by_prompt = {name: result.by_prompt() for name, result in results.items()}
            artifacts.text(json.dumps(by_prompt), f"prompt_scores/{run.number}.json")
            artifacts.table(sample_columns(self.samples), f"samples/{run.number}_{run.name}.json")

    def state_dict(self) -> dict[str, Any]:
        """Return the score matrix as plain values."""
        return {"matrix": self.matrix.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the score matrix."""
        self.matrix = ScoreMatrix.from_dict(state_dict["matrix"])


def _tell(trainer: L.Trainer, run: StageRun, done: int, total: int) -> None:
    """Tell the callbacks how far the evaluation has got."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StageCallback):
            callback.on_evaluation_progress(trainer, run, done, total)
