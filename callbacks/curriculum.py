"""Leads a run through its stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L

from omnithink_pl.curriculum.schedulers import StageScheduler
from omnithink_pl.curriculum.stages import Stage, StageRun, check_stages, total_steps, with_lengths, with_replay
from omnithink_pl.errors import BadInput, RunEnded

from .lookups import StageCallback, callback_of, data_of, module_of
from .stage_evaluation import StageEvaluation


class Curriculum(L.Callback):
    """Trains through a list of stages, as one epoch of Lightning's; the only part that knows the plan.

    Curriculum, reverse, joint and single-task training are nothing but other lists. At a stage's start the data
    installs the stage's task sampler, and the module and the callbacks are told; at its end all tasks are evaluated,
    before anything of the next stage happens. It stands last among the callbacks: what they do at the end of a step
    belongs to the stage that the step belongs to.

    Args:
        stages: The stages in order, each with the weight of its tasks.
        steps: Batches of each task, or one number for all, for stages that name no number of steps.
        replay: Share of each batch for the tasks of earlier stages, in [0, 1).
        scheduler: Chooses each stage, the first too, when the one before has ended and all tasks were evaluated. Not
            given: the order of the list.

    Example:
        stages: [{tasks: {code: 1}}, {tasks: {math: 1, code: 0.1}, steps: 60}]
        steps: {code: 50, math: 50}
    """

    def __init__(
        self,
        stages: list[Stage],
        steps: dict[str, int] | int | None = None,
        replay: float = 0.0,
        scheduler: StageScheduler | None = None,
    ) -> None:
        if not 0.0 <= replay < 1.0:
            raise BadInput(f"curriculum.replay is {replay}; it is a share of the batch, from 0 to below 1")
        for task, number in steps.items() if isinstance(steps, dict) else [("", steps)]:
            if number is not None and number < 1:
                key = f"curriculum.steps.{task}".strip(".")
                raise BadInput(f"{key} is {number}; use 1 or more, or take a task out of curriculum.stages")
        self.stages = with_lengths(stages, steps or {})
        self.replay = replay
        self.scheduler = scheduler
        self.plan = with_replay(self.stages, replay)
        self._number = 0  # of the present stage; 0 is the base model, len(plan) + 1 the end
        self._begun = 0  # stages that have taken a step

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse stages that cannot run, before anything else happens."""
        check_stages(self.stages, data_of(trainer).tasks)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the length of the loader, now that a checkpoint has been restored."""
        data_of(trainer).total_steps = total_steps(self.plan)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate the base model and enter the first stage, or go on where a checkpoint was written.

        The end of the last stage is told again: the run may have been ended before all that follows was stored.
        """
        if self.ended:
            self._tell_end(trainer, StageRun(tuple(self.plan), len(self.plan), begins=False))
        self._enter(trainer)
        self._advance(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """End the stage after its last step and enter the next one, before a batch of it is drawn."""
        self._begun = self._number
        self._advance(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse an end that nobody asked for: Lightning takes a callback's ``StopIteration`` for the last batch.

        Raises:
            RunEnded: If stages are left, and neither a limit of the trainer nor ``should_stop`` has ended the run.
        """
        done, total = module_of(trainer).steps_done, total_steps(self.plan)
        limited = done >= trainer.num_training_batches < total or trainer.global_step >= trainer.max_steps >= 0
        if not (self.ended or trainer.should_stop or limited):
            raise RunEnded(
                f"training ended after {done} of {total} steps, before the end of its last stage and without an error: "
                f"a callback, or an evaluation, raised StopIteration; mend it and continue with --ckpt_path last"
            )

    def shorten(self, trainer: L.Trainer) -> None:
        """Let the present stage end with the steps that it has taken."""
        run = self._run(begins=False)
        steps = module_of(trainer).steps_done - run.first_step
        self.plan[self._number - 1] = replace(run.stage, steps=steps)
        self._announce(trainer, begins=False)

    def _advance(self, trainer: L.Trainer) -> None:
        if not self.ended and module_of(trainer).steps_done == self._run().end_step:
            self._end(trainer)
            self._enter(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        """Evaluate all tasks, then tell that the stage has ended."""
        run = self._run()
        callback_of(trainer, StageEvaluation).measure(trainer, run)
        self._number += 1  # only now: an evaluation that is interrupted is made again
        self._tell_end(trainer, run)

    def _tell_end(self, trainer: L.Trainer, run: StageRun) -> None:
        for callback in self._listeners(trainer):
            callback.on_stage_end(trainer, module_of(trainer), run)

    def _enter(self, trainer: L.Trainer) -> None:
        """Choose the present stage if it has not begun, and tell the data, the module and the callbacks."""
        if self.ended:
            data_of(trainer).leave()
            return
        begins = module_of(trainer).steps_done == self._run().first_step
        if begins:
            self._choose(trainer)
        self._announce(trainer, begins)

    def _announce(self, trainer: L.Trainer, begins: bool) -> None:
        run, module = self._run(begins), module_of(trainer)
        if run.number:
            data_of(trainer).enter(run.stage, run.total_steps)
            module.on_stage_start(run)
        for callback in self._listeners(trainer):
            # Not `run`: a callback that is told before may have shortened the stage.
            callback.on_stage_start(trainer, module, self._run(begins))

    def _choose(self, trainer: L.Trainer) -> None:
        """Have the scheduler choose among the remaining stages, where there is a choice."""
        ended = self._number - 1
        if self.scheduler is None or not 0 <= ended <= len(self.plan) - 2:
            return
        behind, left = self.plan[:ended], self._remaining(ended)
        matrix = callback_of(trainer, StageEvaluation).matrix
        left.insert(0, left.pop(self.scheduler.choose(behind, left, matrix)))
        self.plan[ended:] = with_replay([*behind, *left], self.replay)[ended:]

    def _remaining(self, ended: int) -> list[Stage]:
        """Return the stages to come as configured, without the replay of their present place."""
        left = list(self.stages)
        for stage in self.plan[:ended]:
            left.remove(next(own for own in left if own.tasks == stage.tasks))
        return left

    def _run(self, begins: bool = True) -> StageRun:
        return StageRun(tuple(self.plan), self._number, begins)

    @property
    def ended(self) -> bool:
        """Whether the last stage has ended."""
        return self._number > len(self.plan)

    def _listeners(self, trainer: L.Trainer) -> list[StageCallback]:
        return [callback for callback in trainer.callbacks if isinstance(callback, StageCallback)]  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """Return the stages as configured, so that a resumed run can compare them, and the plan as it is."""
        return {
            "stages": [stage.to_dict() for stage in self.stages],
            "plan": [stage.to_dict() for stage in self.plan],
            "number": self._number,
            "begun": self._begun,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the plan; stages that have not begun may be configured anew."""
        self._number, self._begun = state_dict["number"], state_dict["begun"]
        saved = self._restored(state_dict["plan"])
        kept = len(saved) if self.scheduler is not None else self._begun
        self.plan = [*saved[:kept], *self.plan[kept:]]

    def _restored(self, plan: list[dict[str, Any]]) -> list[Stage]:
        """Build the stages of a checkpoint, each with the task sampler of the configured stage that it was."""
        left, restored = list(self.stages), []
        for plain in plan:
            own = next((s for s in left if all(s.to_dict()[key] == plain[key] for key in ("tasks", "sampler"))), None)
            if own is not None:
                left.remove(own)  # stages of the same tasks follow each other in the order of the config
            sampler = None if own is None else own.sampler
            restored.append(Stage(plain["tasks"], plain["steps"], plain["replay"], sampler))
        return restored
