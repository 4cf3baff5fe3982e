"""Writes a run's configuration, tags, data, environment, rollouts, final scores, figures and policy to its trackers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.evaluator import summary_metrics
from omnithink_pl.redaction import redact
from omnithink_pl.report.console import filter_columns, score_columns, score_markdown
from omnithink_pl.tracking.adapters import artifacts_of, run_artifacts
from omnithink_pl.tracking.artifacts import DataInput, rollout_table, source_settings
from omnithink_pl.tracking.logger import TrackingLogger
from omnithink_pl.tracking.parameters import parameters
from omnithink_pl.tracking.runs import FOLDER, environment, git_commit

from .changes import Change
from .checkpoints import Checkpoints
from .curriculum import Curriculum
from .lookups import StageCallback, callback_of, data_of, find_callback, module_of
from .stage_evaluation import StageEvaluation

_GIB = 2**30
_TAG = 4000  # characters of a tag that MLflow takes from any store


class Tracking(StageCallback):
    """Stores what makes runs comparable, beside the metrics that the module logs itself.

    Every logger of the trainer gets it, as far as it has the means: see ``tracking/adapters.py``. Only rank 0 writes.

    Args:
        name: Kind of run, such as ``curriculum`` or ``joint``: a tag, and the beginning of the run's name.
        rollouts: Completions in each table of rollouts.
        rollouts_every_n_steps: Steps between tables of rollouts; there is always one of a stage's last step.
        upload_policy_gib: A trained policy of at most this size is stored with its run; of a larger one, where it lies.
    """

    def __init__(
        self, name: str = "run", rollouts: int = 64, rollouts_every_n_steps: int = 50, upload_policy_gib: float = 1.0
    ) -> None:
        if rollouts_every_n_steps < 1:
            raise BadInput(f"tracking.rollouts_every_n_steps is {rollouts_every_n_steps}; use 1 or more")
        self.name = name
        self.rollouts = rollouts
        self.rollouts_every_n_steps = rollouts_every_n_steps
        self.upload_policy_gib = upload_policy_gib
        self._logger: TrackingLogger | None = None
        self._run: StageRun | None = None
        self._rewards: dict[str, list[tuple[int, float]]] = {}  # of each task, by step

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the logger; Lightning has just opened its store."""
        self._logger = tracking_logger(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Name and tag the run, and store its data and the environment, which may differ from that before a resume."""
        data, steps_done = data_of(trainer), module_of(trainer).steps_done
        for logger, run in run_artifacts(trainer).items():  # opens the run, before a checkpoint is to name it
            run.describe(self._tags(trainer), name=None if steps_done else self._run_name(trainer, logger))
            run.json(environment(), from_step("environment.json", steps_done))
            run.inputs(data_inputs(data))
            if reports := data.reports():
                run.table(filter_columns(reports), "data.json")
        if self._logger is not None and trainer.is_global_zero:
            self._logger.show_tasks(list(data.tasks))

    def on_stage_start(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Note the stage; at the start of training, tag the run with the plan."""
        if self._run is None:
            self._describe(trainer, run.plan)
        self._run = run

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Note the rewards; store the rollouts of every so many steps, and of a stage's last."""
        module, run = module_of(trainer), self._run
        for task in data_of(trainer).trained_tasks:
            if (reward := module.last_metrics.get(f"train/{task}/reward")) is not None:
                self._rewards.setdefault(task, []).append((module.steps_done, reward))
        if run is None or not trainer.loggers:
            return
        if module.steps_done != run.end_step and module.steps_done % self.rollouts_every_n_steps:
            return
        groups = module.gather_rollouts()  # in all processes
        if not groups or not trainer.is_global_zero:
            return
        table = rollout_table(groups, module.steps_done)
        some = {column: values[: self.rollouts] for column, values in table.items()}
        for artifacts in run_artifacts(trainer).values():
            artifacts.table(some, f"rollouts/step_{module.steps_done:05d}_{run.name}.json")

    def on_stage_end(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Store the score matrix so far; after the last stage also the scores as ``after/...``, and the figures."""
        matrix = score_matrix(trainer)
        if matrix is None:
            return
        for artifacts in run_artifacts(trainer).values():
            artifacts.json(matrix.to_dict(), "score_matrix.json")
            artifacts.table(score_columns(matrix), "tables/score_matrix.json")
        self._describe(trainer, run.plan, score_markdown(matrix))
        if run.is_last:
            for logger in trainer.loggers:
                logger.log_metrics(summary_metrics(matrix), step=run.end_step)
            self._figures(trainer, matrix, run.plan)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Store the trained policy, which is written by now, before Lightning closes the runs."""
        checkpoints, matrix = find_callback(trainer, Checkpoints), score_matrix(trainer)
        if stage != "fit" or checkpoints is None or matrix is None or not checkpoints.policy_path.is_dir():
            return
        size = sum(file.stat().st_size for file in checkpoints.policy_path.iterdir())
        upload = size <= self.upload_policy_gib * _GIB
        for run in run_artifacts(trainer).values():
            run.policy(checkpoints.policy_path, summary_metrics(matrix), module_of(trainer).steps_done, upload)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for a store that is away, while a checkpoint can still be saved; note whether steps are left."""
        if self._logger is None or not trainer.is_global_zero:
            return
        if not callback_of(trainer, Curriculum).ended:
            self._logger.mark_incomplete()
        self._logger.drain()

    def state_dict(self) -> dict[str, Any]:
        """Return the run (``None`` if none is tracked), what its store has not got yet, and the rewards so far."""
        own = self._logger.state_dict() if self._logger else {"run_id": None}
        return own | {"rewards": {task: list(points) for task, points in self._rewards.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the checkpoint's run."""
        self._rewards = {task: list(points) for task, points in state_dict.get("rewards", {}).items()}
        if self._logger is not None:
            self._logger.load_state_dict(state_dict)

    def _tags(self, trainer: L.Trainer) -> dict[str, str]:
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
        return tags

    def _run_name(self, trainer: L.Trainer, logger: Logger) -> str | None:
        """A name such as ``curriculum-s0-0733``, which ends as the run's id begins; ``None`` if the user chose one."""
        if isinstance(logger, TrackingLogger) and logger.run_name:
            return None
        return f"{self.name}-s{module_of(trainer).seed}-{str(logger.version)[:4]}"

    def _describe(self, trainer: L.Trainer, plan: Sequence[Stage], note: str | None = None) -> None:
        """Tag the runs with the plan, which a scheduler or a plateau may have changed."""
        steps = " > ".join(str(stage.steps) for stage in plan)
        for run in run_artifacts(trainer).values():
            run.describe({"stages": " > ".join(stage.name for stage in plan), "steps": steps}, note=note)

    def _figures(self, trainer: L.Trainer, matrix: ScoreMatrix, stages: Sequence[Stage]) -> None:
        from omnithink_pl.report.run_figures import forgetting_figure, learning_curves_figure, score_matrix_figure

        artifacts = run_artifacts(trainer).values()
        if not artifacts:
            return
        figures = {
            "score_matrix": score_matrix_figure(matrix, [list(stage.tasks) for stage in stages]),
            "forgetting": forgetting_figure(matrix),
            "learning_curves": learning_curves_figure(self._rewards, stages, matrix),
        }
        for run in artifacts:
            for name, figure in figures.items():
                run.figure(figure, f"figures/{name}.png")


class SaveResolvedConfig(SaveConfigCallback):
    """Stores ``config.yaml`` in the tracked run, from which the run can be repeated, and its settings as parameters.

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
        for logger in trainer.loggers:
            if isinstance(logger, TrackingLogger):
                logger.keep_config(self.text)
            elif trainer.is_global_zero:
                self._store(logger, "config.yaml", self.text)

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store it, now that the run is known, and what of it has changed since the run began."""
        steps_done = module_of(trainer).steps_done
        told = "; ".join("step {step}: {key} {before}, now {after}".format(**one) for one in self._changes)
        for logger, run in run_artifacts(trainer).items():
            self._store(logger, from_step("config.yaml", steps_done), self.text, first=not steps_done)
            if told:
                run.json(self._changes, "changes.json")
                run.describe({"changes": told[:_TAG]})

    def _store(self, logger: Logger, path: str, text: str, first: bool = True) -> None:
        """A run that is resumed keeps the parameters that it was begun with."""
        artifacts_of(logger).text(text, path)
        if first:
            logger.log_hyperparams(parameters(yaml.safe_load(text)))

    def state_dict(self) -> dict[str, Any]:
        """Return the configuration, which a resumed run compares with its own, and the changes so far."""
        return {"config": self.text, "changes": self._changes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the changes of earlier resumptions before those of this one."""
        self._changes = [*state_dict["changes"], *self._changes]


def data_inputs(data: MultiTaskData) -> list[DataInput]:
    """Return the training examples of each task that is trained, and the held-out examples of all."""
    sources = {name: source_settings(task.source) for name, task in data.tasks.items()}
    imitated = {"demonstrations": data.demonstrations} if data.demonstrations else None
    inputs = []
    for task in data.trained_tasks:
        examples = [example for example in data.train if example.task == task]
        inputs.append(DataInput.of(task, "training", imitated or sources[task], examples))
    return inputs + [DataInput.of(name, "evaluation", sources[name], own) for name, own in data.held_out.items()]


def tracking_logger(trainer: L.Trainer) -> TrackingLogger | None:
    """Return the MLflow logger of the run, which a checkpoint names; ``None`` if the user chose others."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TrackingLogger)), None)


def score_matrix(trainer: L.Trainer) -> ScoreMatrix | None:
    """Return the score matrix so far; ``None`` before the first row."""
    evaluation = find_callback(trainer, StageEvaluation)
    return evaluation.matrix if evaluation is not None and evaluation.matrix.rows else None


def from_step(path: str, step: int) -> str:
    """Return the name of a file that a resumed run stores again: ``config.yaml``, ``config_from_step_20.yaml``."""
    stem, _, suffix = path.rpartition(".")
    return path if step == 0 else f"{stem}_from_step_{step}.{suffix}"
