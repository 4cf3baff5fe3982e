"""Writes a run's configuration, tags, environment, rollouts, final scores and figures to the tracking store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from math import isnan
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.changes import Change
from callbacks.checkpoints import Checkpoints
from callbacks.curriculum import Curriculum
from callbacks.lookups import StageCallback, callback_of, data_of, find_callback, module_of
from callbacks.stage_evaluation import StageEvaluation
from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.evaluation.evaluator import evaluation_metrics
from omnithink_pl.redaction import redact
from omnithink_pl.report.console import filter_columns, score_markdown
from omnithink_pl.tracking.artifacts import rollout_table
from omnithink_pl.tracking.logger import TrackingLogger
from omnithink_pl.tracking.runs import FOLDER, environment, git_commit

_TAG = 4000  # characters of a tag that MLflow takes from any store
_SCORES = ("eval/", "forgetting/", "backward_transfer/")


class Tracking(StageCallback):
    """Stores what makes runs comparable, beside the metrics that the module logs itself.

    Without a ``TrackingLogger`` it does nothing. Only rank 0 writes.

    Args:
        name: Kind of run, such as ``curriculum`` or ``joint``: a tag, and the run's name.
        rollouts: Completions in the table of each stage.
    """

    def __init__(self, name: str = "run", rollouts: int = 64) -> None:
        self.name = name
        self.rollouts = rollouts
        self._logger: TrackingLogger | None = None
        self._run: StageRun | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the logger; Lightning has just opened its store."""
        self._logger = tracking_logger(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tag the run and store the environment, which may differ from the one before a resume."""
        if self._logger is None or not trainer.is_global_zero:
            return
        self._logger.set_tags(self._tags(trainer))  # opens the run, before a checkpoint is to name it
        self._logger.artifacts.json(environment(), from_step("environment.json", module_of(trainer).steps_done))
        if reports := data_of(trainer).reports():
            self._logger.artifacts.table(filter_columns(reports), "data.json")

    def on_stage_start(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Note the stage; at the start of training, tag the run with the plan."""
        if self._run is None and self._logger is not None and trainer.is_global_zero:
            self._logger.set_tags({"stages": _order(run.plan)})
        self._run = run

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Store the rollouts of a stage's last step."""
        module, run = module_of(trainer), self._run
        if self._logger is None or run is None or module.steps_done != run.end_step:
            return
        groups = module.gather_rollouts()  # in all processes
        if groups and trainer.is_global_zero:
            table = rollout_table(groups, module.steps_done)
            some = {column: values[: self.rollouts] for column, values in table.items()}
            self._logger.artifacts.table(some, f"rollouts/{run.number}_{run.name}.json")

    def on_stage_end(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """After the last stage, store the final scores as ``final/...``, the score matrix, and the figures."""
        if not run.is_last or self._logger is None or not trainer.is_global_zero:
            return
        logger, stages = self._logger, run.plan
        scores = {name: value for name, value in logger.latest().items() if name.startswith(_SCORES)}
        logger.set_tags({"stages": _order(stages), "steps": " > ".join(str(stage.steps) for stage in stages)})
        matrix = score_matrix(trainer)
        trained = [list(stage.tasks) for stage in stages]
        last = evaluation_metrics(matrix, trained) if matrix is not None else {}
        # A score that the last evaluation could not measure stems from an earlier one: it is not final.
        final = {f"final/{name}": value for name, value in scores.items() if not isnan(last.get(name, 0.0))}
        logger.log_metrics(final, step=run.end_step)
        if matrix is not None:
            logger.artifacts.json(matrix.to_dict(), "score_matrix.json")
            logger.set_tags({"mlflow.note.content": score_markdown(matrix)})
            self._figures(trainer, logger, matrix, stages)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for a store that is away, while a checkpoint can still be saved; note whether steps are left."""
        if self._logger is None or not trainer.is_global_zero:
            return
        if not callback_of(trainer, Curriculum).ended:
            self._logger.mark_incomplete()
        self._logger.drain()

    def state_dict(self) -> dict[str, Any]:
        """Return the id of the tracked run, ``None`` if none is tracked, and what its store has not got yet."""
        return self._logger.state_dict() if self._logger else {"run_id": None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the checkpoint's run."""
        if self._logger is not None:
            self._logger.load_state_dict(state_dict)

    def _tags(self, trainer: L.Trainer) -> dict[str, str]:
        assert self._logger is not None
        module = module_of(trainer)
        commit, changed = git_commit()
        tags = {
            "kind": self.name,
            "policy": module.policy_name,
            "seed": str(module.seed),
            "git_commit": f"{commit} with changes" if commit and changed else commit or "unknown",
        }
        if checkpoints := find_callback(trainer, Checkpoints):
            tags[FOLDER] = str(checkpoints.path.parent.resolve())
        return tags if self._logger.run_name else {**tags, "mlflow.runName": f"{self.name}-{module.seed}"}

    def _figures(
        self, trainer: L.Trainer, logger: TrackingLogger, matrix: ScoreMatrix, stages: Sequence[Stage]
    ) -> None:
        from omnithink_pl.report.run_figures import forgetting_figure, learning_curves_figure, score_matrix_figure

        trained: Sequence[Sequence[str]] = [list(stage.tasks) for stage in stages]
        rewards = {task: logger.history(f"train/{task}/reward") for task in data_of(trainer).trained_tasks}
        logger.artifacts.figure(score_matrix_figure(matrix, trained), "figures/score_matrix.png")
        logger.artifacts.figure(forgetting_figure(matrix), "figures/forgetting.png")
        logger.artifacts.figure(learning_curves_figure(rewards, stages, matrix), "figures/learning_curves.png")


class SaveResolvedConfig(SaveConfigCallback):
    """Stores ``config.yaml`` in the tracked run, from which the run can be repeated.

    Lightning's own callback writes it to the logger's directory, which a database does not have, and before a
    checkpoint has said which run it continues. A resumed run stores its configuration beside the first one, because it
    may differ. Verbs that do not train have no hooks of Lightning's: they call :meth:`hand_over` before they begin.

    Args:
        parser: Lightning's parser.
        config: What it parsed.
        **kwargs: Passed on.
    """

    def __init__(self, parser: LightningArgumentParser, config: Any, **kwargs: Any) -> None:
        super().__init__(parser, config, **{**kwargs, "save_to_log_dir": False})
        self._changes: list[dict[str, Any]] = []  # of all resumptions, each with its step

    @cached_property
    def text(self) -> str:
        """The configuration without secrets, serialised before training can change anything it refers to."""
        return redact(self.parser.dump(self.config, skip_none=False, skip_validation=True))  # it was parsed just now

    def resume(self, changes: Sequence[Change], step: int) -> None:
        """Note the settings that differ from a checkpoint's from a step on."""
        self._changes = [{"step": step, **asdict(change)} for change in changes]

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Serialise the configuration."""
        _ = self.text
        if stage == "predict":
            self.hand_over(trainer)

    def hand_over(self, trainer: L.Trainer) -> None:
        """Have it stored with the run, if there will be one."""
        logger = tracking_logger(trainer)
        if logger is not None:
            logger.keep(self.text, "config.yaml")

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store it, now that the run is known, and what of it has changed since the run began."""
        logger = tracking_logger(trainer)
        if logger is None:
            return
        logger.artifacts.text(self.text, from_step("config.yaml", module_of(trainer).steps_done))
        if self._changes:
            logger.artifacts.json(self._changes, "changes.json")
            told = "; ".join("step {step}: {key} {before}, now {after}".format(**one) for one in self._changes)
            logger.set_tags({"changes": told[:_TAG]})

    def state_dict(self) -> dict[str, Any]:
        """Return the configuration, which a resumed run compares with its own, and the changes so far."""
        return {"config": self.text, "changes": self._changes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the changes of earlier resumptions before those of this one."""
        self._changes = [*state_dict["changes"], *self._changes]


def _order(stages: Sequence[Stage]) -> str:
    return " > ".join(stage.name for stage in stages)


def tracking_logger(trainer: L.Trainer) -> TrackingLogger | None:
    """Return the logger that tracks the run; ``None`` if the user chose others."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TrackingLogger)), None)


def score_matrix(trainer: L.Trainer) -> ScoreMatrix | None:
    """Return the score matrix so far; ``None`` before the first row."""
    evaluation = find_callback(trainer, StageEvaluation)
    return evaluation.matrix if evaluation is not None and evaluation.matrix.rows else None


def from_step(path: str, step: int) -> str:
    """Return the name of a file that a resumed run stores again: ``config.yaml``, ``config_from_step_20.yaml``."""
    stem, _, suffix = path.rpartition(".")
    return path if step == 0 else f"{stem}_from_step_{step}.{suffix}"
