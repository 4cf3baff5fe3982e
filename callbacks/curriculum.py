"""Leads a run through its stages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import lightning as L

from callbacks.lookups import callback_of, data_of, module_of
from callbacks.stage_evaluation import StageEvaluation
from omnithink_pl.curriculum.schedulers import StageScheduler
from omnithink_pl.curriculum.stages import Stage, boundaries, check_stages, position, total_steps, with_replay
from omnithink_pl.errors import BadInput


class Curriculum(L.Callback):
    """Trains through a list of stages, as one epoch of Lightning's.

    Curriculum, reverse, joint and single-task training are nothing but other lists. Which stage a
    step belongs to follows from the step and the list ``data.stages``: the stages as they were so far, then as
    they are planned. A scheduler changes the order of those to come, a plateau the length of the present one; the list
    is therefore saved with every checkpoint.

    Args:
        stages: The stages in order, each with the weight of its tasks and its number of steps.
        replay: Share of each batch for the tasks of earlier stages, in [0, 1).
        scheduler: Chooses the next stage when one has ended and all tasks were evaluated; the first is the list's
            first. Not given: the order of the list.

    Example:
        stages: [{tasks: {code: 1}, steps: 60}, {tasks: {math: 1, code: 0.1}, steps: 60}]
    """

    def __init__(self, stages: list[Stage], replay: float = 0.0, scheduler: StageScheduler | None = None) -> None:
        if not 0.0 <= replay < 1.0:
            raise BadInput(f"curriculum.replay is {replay}; it is a share of the batch, from 0 to below 1")
        self.stages = stages
        self.replay = replay
        self.scheduler = scheduler
        self._plan: list[Stage] = []
        self._begun = 0  # stages whose place in the order is settled

    @property
    def total_steps(self) -> int:
        """Steps of all stages together, as planned."""
        return total_steps(self.stages)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse stages that cannot run, before anything else happens."""
        data = data_of(trainer)
        check_stages(self.stages, data.tasks)
        data.stages[:] = with_replay(self.stages, self.replay)
        self._plan = data.stages

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose a stage that an interruption kept from being chosen; no batch has been drawn yet."""
        self._choose(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Announce a stage at its first step."""
        module = module_of(trainer)
        at = position(self._plan, module.steps_done)
        if at.step_in_stage == 0:
            self._begun = at.index + 1
            module.begin_stage()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Choose the next stage when one has ended, before a batch of it is drawn."""
        self._choose(trainer)

    def _choose(self, trainer: L.Trainer) -> None:
        done = module_of(trainer).steps_done
        if self.scheduler is None or done == 0 or done not in boundaries(self._plan)[:-2]:
            return  # nothing to choose from behind the last stage but one
        ended = position(self._plan, done).index
        if self._begun > ended:
            return
        evaluation = callback_of(trainer, StageEvaluation)
        evaluation.catch_up(trainer, ended)
        behind, left = self._plan[:ended], self._left(ended)
        left.insert(0, left.pop(self.scheduler.choose(behind, left, evaluation.matrix)))
        self._plan[ended:] = with_replay([*behind, *left], self.replay)[ended:]
        self._begun = ended + 1

    def _left(self, ended: int) -> list[Stage]:
        """The stages to come as configured, without what was mixed into them for their present place."""
        left = list(self.stages)
        for stage in self._plan[:ended]:
            left.remove(next(own for own in left if own.tasks == stage.tasks))
        return left

    def state_dict(self) -> dict[str, Any]:
        """The stages as configured, so that a resumed run can tell whether they are still the same, and as they are."""
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "plan": [asdict(stage) for stage in self._plan or self.stages],
            "begun": self._begun,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the same plan; stages that have not begun may be configured anew."""
        self._begun = state_dict["begun"]
        settled = [Stage(**stage) for stage in state_dict["plan"]]
        if self.scheduler is None:
            settled = [*settled[: self._begun], *self._plan[self._begun :]]
        self._plan[:] = settled
