"""The live display of a fit: stage, step, rewards and time left; at the end the score matrix."""

from __future__ import annotations

import time
from statistics import fmean
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.live import Live

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.errors import BadInput
from omnithink_pl.report.console import TITLE, evaluation_line, legend, sample_lines, score_table
from omnithink_pl.report.live import Pace, Snapshot, TaskView, live_view, status_line
from omnithink_pl.tracking.adapters import run_artifacts

from .checkpoints import Checkpoints
from .lookups import StageCallback, data_of, find_callback, module_of
from .stage_evaluation import StageEvaluation
from .tracking import Tracking, score_matrix, tracking_logger

_SECONDS = 10.0  # between lines of an evaluation
_SILENCE = 60.0  # seconds without a line after which a step that is not every_n_steps has one


class CurriculumProgress(StageCallback, ProgressBar):
    """Shows stage, step, rewards per task, KL and the time left; at the end the score matrix.

    In a terminal it is redrawn in place. Elsewhere, as in a log file, it prints a line with the time every few steps,
    after every step where they take a minute, and now and then during an evaluation. ``NO_COLOR`` is respected.

    Args:
        every_n_steps: Steps between lines where there is no terminal.
        window: Batches of a task that its moving average covers.
        samples: Greedy completions of each task that are printed with an evaluation.
    """

    def __init__(self, every_n_steps: int = 10, window: int = 10, samples: int = 1) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise BadInput(f"progress.every_n_steps is {every_n_steps}; use 1 or more")
        self.every_n_steps = every_n_steps
        self.window = window
        self.samples = samples
        self.console = Console()
        self._enabled = True
        self._live: Live | None = None
        self._pace = Pace()
        # Replaced and never changed in place, because the display reads them from its own thread.
        self._rewards: dict[str, tuple[float, ...]] = {}
        self._run: StageRun | None = None
        self._evaluated = (0, 0)  # prompts of the evaluation under way: done, in all
        self._began = self._marked = self._said = time.monotonic()

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

    def say(self, what: str) -> None:
        """Print a line with the time."""
        self._said = time.monotonic()
        self.print(f"{time.strftime('%H:%M:%S')}  {what}")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Say what happens next: the rows have been read."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            data, policy = data_of(trainer), module_of(trainer).policy_name
            held_out = sum(map(len, data.held_out.values()))
            self.say(f"{len(data.train)} prompts to train on, {held_out} held out; loading the policy {policy}")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what happens next: the policy has been loaded."""
        self.say("checking the prompts, and that the rollout engine agrees with training")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, and print where the run is to be found."""
        self._began = self._marked = time.monotonic()
        if self._enabled:
            for name, place in self._run_places(trainer).items():
                self.print(f"{name:<12}{place}")

    def on_stage_start(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Note the stage; at the start of training, open the display."""
        starts, self._run = self._run is None, run
        if not starts or not self._enabled:
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
            self.say(self._headline(trainer, run))

    def on_evaluation_progress(self, trainer: L.Trainer, run: StageRun, done: int, total: int) -> None:
        """Note how far an evaluation is; without a terminal, say so every ten seconds."""
        self._evaluated = (done, total)
        if self._live is None and (done == total or done == 1 or self._silent_for(_SECONDS)):
            then = ", scoring the completions" if done == total else ""
            self.say(f"evaluating {_of(run)}: {done} of {total} prompts sampled{then}")

    def on_stage_end(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Report the evaluation."""
        self._pace.evaluation_took(time.monotonic() - self._marked)
        matrix = score_matrix(trainer)
        if matrix is None:
            return
        if self._live is None:
            self.say(evaluation_line(matrix))
        evaluation = find_callback(trainer, StageEvaluation)
        lines = sample_lines(evaluation.samples, self.samples, self.console.width) if evaluation is not None else []
        if lines:
            self.print("\n".join(lines))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Mark the beginning of the step."""
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
        due = module.steps_done % self.every_n_steps == 0 or self._silent_for(_SILENCE)
        if self._live is None and due:
            self.say(status_line(self._snapshot(trainer)))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the display; print the score matrix and where everything was saved."""
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
        total = data_of(trainer).total_steps
        self.print(f"Stopped at step {module_of(trainer).steps_done} of {total}: {type(exception).__name__}")

    def _silent_for(self, seconds: float) -> bool:
        return time.monotonic() - self._said >= seconds

    def _snapshot(self, trainer: L.Trainer) -> Snapshot:
        run, module = self._run, module_of(trainer)
        assert run is not None
        evaluation = find_callback(trainer, StageEvaluation)
        evaluating = evaluation is not None and evaluation.evaluating
        matrix = score_matrix(trainer) or ScoreMatrix()
        return Snapshot(
            name=_name(trainer),
            stage=max(1, run.number),
            stages=len(run.plan),
            stage_name=run.plan[0].name if run.number == 0 else run.name,
            steps=module.steps_done,
            total=run.total_steps,
            phase="evaluating {} of {}".format(*self._evaluated) if evaluating else "training",
            elapsed=time.monotonic() - self._began,
            left=self._pace.left(run.total_steps - module.steps_done, len(run.plan) + 1 - len(matrix.rows)),
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

    def _headline(self, trainer: L.Trainer, run: StageRun) -> str:
        done, names = module_of(trainer).steps_done, " > ".join(stage.name for stage in run.plan)
        resumed = f", resumed at step {done}" if done else ""
        return f"{_name(trainer)}: {run.total_steps} steps, {names}{resumed}"

    def _places(self, trainer: L.Trainer) -> dict[str, str]:
        """Return where the results are."""
        places = {}
        checkpoints = find_callback(trainer, Checkpoints)
        if checkpoints is not None:
            if checkpoints.save_policy:
                places["policy"] = str(checkpoints.policy_path)
            places["checkpoint"] = str(checkpoints.path)
        return places | self._run_places(trainer)

    def _run_places(self, trainer: L.Trainer) -> dict[str, str]:
        """Return where the run is to be found, from its start on."""
        places = {}
        checkpoints, logger = find_callback(trainer, Checkpoints), tracking_logger(trainer)
        if checkpoints is not None:
            places["folder"] = str(checkpoints.path.parent)
        for run in run_artifacts(trainer).values():
            places["run"] = run.place
        if logger is not None:
            places["look at it"] = " ".join(filter(None, (logger.server_command, logger.runs_url)))
        return places

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _of(run: StageRun) -> str:
    return f"after {run.name}" if run.number else "the base model"


def _name(trainer: L.Trainer) -> str:
    tracking = find_callback(trainer, Tracking)
    return tracking.name if tracking is not None else "run"
