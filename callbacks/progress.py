"""One live display of a fit: where it is, what it earns, how long it takes, and how it ended."""

from __future__ import annotations

import time
from statistics import fmean
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.live import Live

from callbacks.checkpoints import Checkpoints
from callbacks.lookups import data_of, module_of
from callbacks.stage_evaluation import StageEvaluation
from callbacks.tracking import Tracking, score_matrix, tracking_logger
from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import position, total_steps
from omnithink_pl.errors import BadInput
from omnithink_pl.report.console import TITLE, evaluation_line, legend, score_table
from omnithink_pl.report.live import Pace, Snapshot, TaskView, live_view, status_line


class CurriculumProgress(ProgressBar):
    """Shows stage, step, rewards per task, KL and the time left; at the end the score matrix.

    In a terminal it is redrawn in place. Elsewhere, as in a log file, it prints a line every few steps
    and one per evaluation. ``NO_COLOR`` is respected. It stands behind the evaluation in the list of
    callbacks, so that a step's time holds no evaluation.

    Args:
        every_n_steps: Steps between lines where there is no terminal.
        window: Batches of a task that its moving average covers.
    """

    def __init__(self, every_n_steps: int = 10, window: int = 10) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise BadInput(f"progress.every_n_steps is {every_n_steps}; use 1 or more")
        self.every_n_steps = every_n_steps
        self.window = window
        self.console = Console()
        self._enabled = True
        self._live: Live | None = None
        self._pace = Pace()
        # Replaced and never changed in place, because the display reads them from its own thread.
        self._rewards: dict[str, tuple[float, ...]] = {}
        self._rows = 0
        self._step = 0
        self._began = self._marked = time.monotonic()

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning asks for it on all processes but the first."""
        self._enabled = False
        self._stop()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the display."""
        if self._enabled:
            self.console.print(*args, markup=False, highlight=False, soft_wrap=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the display."""
        self._began = self._marked = time.monotonic()
        matrix = score_matrix(trainer)
        self._rows = len(matrix.rows) if matrix else 0
        self._step = max(0, module_of(trainer).steps_done - 1)
        if not self._enabled:
            return
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(
                get_renderable=lambda: live_view(self._snapshot(trainer)),
                console=self.console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()
        else:
            self.print(self._headline(trainer))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Report an evaluation that came before the step."""
        self._report_evaluation(trainer)
        self._step = module_of(trainer).steps_done
        self._marked = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Note the step's rewards and duration."""
        self._pace.step_took(time.monotonic() - self._marked)
        self._marked = time.monotonic()
        module = module_of(trainer)
        for task in data_of(trainer).tasks:
            reward = module.last_metrics.get(f"train/{task}/reward")
            if reward is not None:
                self._rewards[task] = (*self._rewards.get(task, ()), reward)[-self.window :]
        if self._live is None and module.steps_done % self.every_n_steps == 0:
            self.print(status_line(self._snapshot(trainer)))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the last evaluation."""
        self._report_evaluation(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the display, and say what came out and where it lies, once everything is saved."""
        self._stop()
        if not self._enabled or stage != "fit":
            return
        matrix = score_matrix(trainer)
        if matrix is not None:
            self.print(f"\n{TITLE}")
            self.console.print(score_table(matrix))
            self.print(f"{legend(matrix)}\n")
        for name, place in self._places(trainer).items():
            self.print(f"{name:<12}{place}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the display, so that the error is readable."""
        self._stop()
        done, total = module_of(trainer).steps_done, total_steps(data_of(trainer).stages)
        self.print(f"Stopped at step {done} of {total}: {type(exception).__name__}")

    def _report_evaluation(self, trainer: L.Trainer) -> None:
        matrix = score_matrix(trainer)
        if matrix is None or len(matrix.rows) == self._rows:
            return
        self._pace.evaluation_took((time.monotonic() - self._marked) / (len(matrix.rows) - self._rows))
        self._rows = len(matrix.rows)
        if self._live is None:
            self.print(evaluation_line(matrix))

    def _snapshot(self, trainer: L.Trainer) -> Snapshot:
        stages, module = data_of(trainer).stages, module_of(trainer)
        at = position(stages, self._step)
        matrix = score_matrix(trainer) or ScoreMatrix()
        total = total_steps(stages)
        return Snapshot(
            name=_name(trainer),
            stage=at.index + 1,
            stages=len(stages),
            stage_name=at.stage.name,
            steps=module.steps_done,
            total=total,
            phase=_phase(trainer),
            elapsed=time.monotonic() - self._began,
            left=self._pace.left(total - module.steps_done, len(stages) + 1 - len(matrix.rows)),
            seconds_per_step=self._pace.seconds_per_step,
            tasks={task: self._task(task, matrix) for task in data_of(trainer).tasks},
            metrics=module.last_metrics,
        )

    def _task(self, task: str, matrix: ScoreMatrix) -> TaskView:
        rewards = self._rewards.get(task, ())
        return TaskView(
            latest=rewards[-1] if rewards else None,
            average=fmean(rewards) if rewards else None,
            scores=[row[task].sampled for row in matrix.rows],
        )

    def _headline(self, trainer: L.Trainer) -> str:
        stages, done = data_of(trainer).stages, module_of(trainer).steps_done
        names = " > ".join(stage.name for stage in stages)
        resumed = f", resumed at step {done}" if done else ""
        return f"{_name(trainer)}: {total_steps(stages)} steps, {names}{resumed}"

    def _places(self, trainer: L.Trainer) -> dict[str, str]:
        places = {}
        checkpoints = next((c for c in _callbacks(trainer) if isinstance(c, Checkpoints)), None)
        if checkpoints is not None:
            if checkpoints.save_policy:
                places["policy"] = str(checkpoints.policy_path)
            places["checkpoint"] = str(checkpoints.path)
        logger = tracking_logger(trainer)
        if logger is not None:
            places["run"] = logger.url or f"{logger.version} in {logger.tracking_uri}"
            places["look at it"] = logger.url or "make ui"
        return places

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _phase(trainer: L.Trainer) -> str:
    evaluating = any(c.evaluating for c in _callbacks(trainer) if isinstance(c, StageEvaluation))
    return "evaluating" if evaluating else "training"


def _name(trainer: L.Trainer) -> str:
    return next((c.name for c in _callbacks(trainer) if isinstance(c, Tracking)), "run")


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]
