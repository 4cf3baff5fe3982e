"""Writes a run's tags, environment, rollouts, final scores and figures to the tracking store."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

import lightning as L

from callbacks.checkpoints import Checkpoints
from callbacks.lookups import data_of, module_of
from callbacks.stage_evaluation import StageEvaluation
from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage, position, total_steps
from omnithink_pl.evaluation.evaluator import evaluation_metrics
from omnithink_pl.report.console import filter_columns, score_markdown
from omnithink_pl.tracking.artifacts import rollout_table
from omnithink_pl.tracking.environment import environment, git_commit
from omnithink_pl.tracking.logger import TrackingLogger
from omnithink_pl.tracking.runs import FOLDER

_SCORES = ("eval/", "forgetting/", "backward_transfer/")


class Tracking(L.Callback):
    """Keeps what makes a run worth comparing, beside the metrics that the module logs itself.

    Without a ``TrackingLogger`` it does nothing. What it writes, it writes from one process.

    Args:
        name: Kind of run, such as ``curriculum`` or ``joint``: a tag, and the run's name.
        rollouts: Completions in the table of each stage.
    """

    def __init__(self, name: str = "run", rollouts: int = 64) -> None:
        self.name = name
        self.rollouts = rollouts
        self._logger: TrackingLogger | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the logger; Lightning has just opened its store."""
        self._logger = tracking_logger(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tag the run and store the environment; a resumed run may go on in another one."""
        if self._logger is None or not trainer.is_global_zero:
            return
        self._logger.set_tags(self._tags(trainer))
        self._logger.artifacts.json(environment(), from_step("environment.json", module_of(trainer).steps_done))
        if reports := data_of(trainer).reports():
            self._logger.artifacts.table(filter_columns(reports), "data.json")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Store the rollouts of a stage's last step."""
        if self._logger is None or not trainer.is_global_zero:
            return
        module = module_of(trainer)
        at = position(data_of(trainer).stages, module.steps_done - 1)
        if at.step_in_stage + 1 == at.stage.steps and module.last_rollouts:
            table = rollout_table(module.last_rollouts, module.steps_done)
            some = {column: values[: self.rollouts] for column, values in table.items()}
            self._logger.artifacts.table(some, f"rollouts/{at.index + 1}_{at.stage.name}.json")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store the final scores as ``final/...``, the score matrix, and the figures."""
        stages, done = data_of(trainer).stages, module_of(trainer).steps_done
        if self._logger is None or not trainer.is_global_zero or done != total_steps(stages):
            return
        scores = {name: value for name, value in self._logger.latest().items() if name.startswith(_SCORES)}
        self._logger.set_tags({"stages": _order(stages), "steps": " > ".join(str(stage.steps) for stage in stages)})
        matrix = score_matrix(trainer)
        trained = [list(stage.tasks) for stage in stages]
        last = evaluation_metrics(matrix, trained) if matrix is not None else {}
        # What the last evaluation could not measure has its value from an earlier one: nothing final.
        final = {f"final/{name}": value for name, value in scores.items() if not isnan(last.get(name, 0.0))}
        self._logger.log_metrics(final, step=done)
        if matrix is not None:
            self._logger.artifacts.json(matrix.to_dict(), "score_matrix.json")
            self._logger.set_tags({"mlflow.note.content": score_markdown(matrix)})
            self._figures(trainer, self._logger, matrix)

    def state_dict(self) -> dict[str, Any]:
        """The run that a resumed fit continues; ``None`` if none is tracked."""
        return {"run_id": self._logger.version if self._logger else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the checkpoint's run."""
        if self._logger is not None and state_dict["run_id"]:
            self._logger.resume(state_dict["run_id"])

    def _tags(self, trainer: L.Trainer) -> dict[str, str]:
        assert self._logger is not None
        module = module_of(trainer)
        commit, changed = git_commit()
        tags = {
            "kind": self.name,
            "stages": _order(data_of(trainer).stages),
            "policy": module.policy_name,
            "seed": str(module.seed),
            "git_commit": f"{commit} with changes" if commit and changed else commit or "unknown",
        }
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Checkpoints):
                tags[FOLDER] = str(callback.path.parent.resolve())
        return tags if self._logger.run_name else {**tags, "mlflow.runName": f"{self.name}-{module.seed}"}

    def _figures(self, trainer: L.Trainer, logger: TrackingLogger, matrix: ScoreMatrix) -> None:
        from omnithink_pl.report.run_figures import forgetting_figure, learning_curves_figure, score_matrix_figure

        stages = data_of(trainer).stages
        trained: Sequence[Sequence[str]] = [list(stage.tasks) for stage in stages]
        rewards = {task: logger.history(f"train/{task}/reward") for task in data_of(trainer).trained_tasks}
        logger.artifacts.figure(score_matrix_figure(matrix, trained), "figures/score_matrix.png")
        logger.artifacts.figure(forgetting_figure(matrix), "figures/forgetting.png")
        logger.artifacts.figure(learning_curves_figure(rewards, stages, matrix), "figures/learning_curves.png")


def _order(stages: Sequence[Stage]) -> str:
    return " > ".join(stage.name for stage in stages)


def tracking_logger(trainer: L.Trainer) -> TrackingLogger | None:
    """The logger that tracks the run; ``None`` if the user chose others."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TrackingLogger)), None)


def score_matrix(trainer: L.Trainer) -> ScoreMatrix | None:
    """The score matrix so far; ``None`` before the first row."""
    found = next((c.matrix for c in trainer.callbacks if isinstance(c, StageEvaluation)), None)  # type: ignore[attr-defined]
    return found if found is not None and found.rows else None


def from_step(path: str, step: int) -> str:
    """The name of a file that a resumed run stores again: ``config.yaml``, ``config_from_step_20.yaml``."""
    stem, _, suffix = path.rpartition(".")
    return path if step == 0 else f"{stem}_from_step_{step}.{suffix}"
