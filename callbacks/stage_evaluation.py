"""Evaluates all tasks before training and after each stage, and keeps the score matrix."""

from __future__ import annotations

import json
from math import isnan
from typing import Any

import lightning as L
import torch

from callbacks.lookups import data_of, module_of
from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import position, total_steps
from omnithink_pl.evaluation.evaluator import Evaluator, evaluation_metrics
from omnithink_pl.tracking import TrackingLogger


class StageEvaluation(L.Callback):
    """Row 0 of the score matrix is the base model; a row is added after each stage.

    A single rule covers training, resuming after a kill inside an evaluation, and resuming after the
    last step: before going on, every finished stage must have its row.

    Args:
        evaluator: How many held-out prompts and samples, and how they are drawn.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.matrix = ScoreMatrix()
        self.evaluating = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Before the first step of a stage, catch up with the stages before it."""
        self.catch_up(trainer, position(data_of(trainer).stages, module_of(trainer).steps_done).index)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the last step, evaluate the last stage."""
        self._finish(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Resumed after the last step there is no training to end: evaluate here instead."""
        self._finish(trainer)

    def _finish(self, trainer: L.Trainer) -> None:
        stages = data_of(trainer).stages
        if module_of(trainer).steps_done == total_steps(stages):
            self.catch_up(trainer, len(stages))

    def catch_up(self, trainer: L.Trainer, finished: int) -> None:
        """Add the rows that are missing for so many finished stages, and for the base."""
        stages = data_of(trainer).stages
        while len(self.matrix.rows) <= finished:
            row = len(self.matrix.rows)
            self._add_row(trainer, "base" if row == 0 else f"{row} {stages[row - 1].name}")

    def _add_row(self, trainer: L.Trainer, label: str) -> None:
        module, data = module_of(trainer), data_of(trainer)
        module.to(trainer.strategy.root_device)  # after the last step Lightning has moved it away
        row = len(self.matrix.rows)
        self.evaluating = True
        with module.peers.watching():
            own = self.evaluator.measure(module.policy, module.engine, data.tasks, data.held_out, module.seed)
        results = self.evaluator.conclude(own, module.monitor.policy.max_rate)
        self.evaluating = False
        module.monitor.excuse({name: why for name, result in results.items() if (why := result.unscored)}, row)
        self.matrix = self.matrix.add(label, {name: result.score for name, result in results.items()})
        metrics = evaluation_metrics(self.matrix, [list(stage.tasks) for stage in data.stages])
        metrics = {name: value for name, value in metrics.items() if not isnan(value)}
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=module.steps_done)
            if isinstance(logger, TrackingLogger) and trainer.is_global_zero:
                by_prompt = {name: result.by_prompt() for name, result in results.items()}
                logger.artifacts.text(json.dumps(by_prompt), f"prompt_scores/{row}.json")

    def state_dict(self) -> dict[str, Any]:
        """The score matrix, as plain values."""
        return {"matrix": self.matrix.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the score matrix."""
        self.matrix = ScoreMatrix.from_dict(state_dict["matrix"])
