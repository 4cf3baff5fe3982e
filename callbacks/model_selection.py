"""Scores the tasks of a stage while it is trained: keeps its best policy, and ends it on a plateau."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from statistics import fmean
from typing import Any, Literal

import lightning as L
import torch

from omnithink_pl.curriculum.schedulers import best_index, has_plateaued
from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.evaluator import Evaluator
from omnithink_pl.types import Example

from .checkpoints import Checkpoints, write_policy
from .curriculum import Curriculum
from .lookups import StageCallback, callback_of, data_of, module_of
from .stage_evaluation import StageEvaluation

log = logging.getLogger(__name__)


class ModelSelection(StageCallback):
    """Scores the tasks that a stage trains, on held-out prompts that no evaluation uses.

    The score is the mean over the stage's tasks of the primary reward at temperature 1.

    Args:
        every_n_steps: Steps of a stage between validations; there is always one after its last step. Not given: none.
        patience: A stage ends after so many validations in a row without a better score. Not given: never early.
        min_delta: What counts as better.
        keep_best: Save the best policy of each stage in ``best/<number>_<stage>`` beside the checkpoint.
        continue_from: The policy that a stage hands on to its evaluation and to the next stage: ``last``, or ``best``,
            whose weights are then part of every checkpoint. The optimiser's own state goes on as it is.
        evaluator: How many prompts and samples.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        keep_best: bool = True,
        continue_from: Literal["last", "best"] = "last",
        evaluator: Evaluator = Evaluator(prompts=64, samples=2, max_tokens=56),  # noqa: B008  (holds settings only)
    ) -> None:
        for key, value in (("every_n_steps", every_n_steps), ("patience", patience)):
            if value is not None and value < 1:
                raise BadInput(f"validation.{key} is {value}; use 1 or more, or null")
        if patience is not None and every_n_steps is None:
            raise BadInput("validation.patience needs validations; set validation.every_n_steps")
        if continue_from == "best" and every_n_steps is None:
            raise BadInput("validation.continue_from: best needs validations; set validation.every_n_steps")
        self.every_n_steps = every_n_steps
        self.patience = patience
        self.min_delta = min_delta
        self.keep_best = keep_best
        self.continue_from = continue_from
        self.evaluator = evaluator
        self._run: StageRun
        self._number = -1  # stage that the following belong to
        self._steps: list[int] = []
        self._scores: list[float] = []
        self._best: dict[str, torch.Tensor] = {}  # trained parameters at the best score

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse settings that contradict each other, and tasks without prompts to validate on."""
        if self.every_n_steps is None:
            return
        module, going_back = module_of(trainer), self.continue_from == "best"
        if (self.patience is not None or going_back) and module.samples_ahead:
            raise BadInput(
                "model.rollouts.async_rewards and segment_tokens begin the next step's rollouts before "
                "validation.patience can end the stage, or validation.continue_from go back to its best policy; set "
                "them to false or null, or these to null and last"
            )
        if going_back and module.device_mesh is not None:
            raise BadInput("validation.continue_from: best is not there for sharded weights; use last")
        for task in data_of(trainer).trained_tasks:
            self._examples(trainer, task)

    def on_stage_start(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Note the stage; on resuming, make a validation that was interrupted."""
        self._run = run
        if run.number and not run.begins:
            self._validate(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Validate every few steps and at the end of a stage."""
        self._validate(trainer)

    def _validate(self, trainer: L.Trainer) -> None:
        if self.every_n_steps is None:
            return
        if self._run.number != self._number:
            self._number, self._steps, self._scores, self._best = self._run.number, [], [], {}
        done = module_of(trainer).steps_done
        steps, is_over = done - self._run.first_step, done == self._run.end_step
        if steps in self._steps or not (is_over or steps % self.every_n_steps == 0):
            return
        score = self._measure(trainer)
        self._steps.append(steps)  # only now: a validation that is interrupted is made again
        if score is not None:
            self._note(trainer, score)
        if not is_over and self.patience is not None and has_plateaued(self._scores, self.patience, self.min_delta):
            log.info(
                "stage %d %s: no better score in %d validations, so it ends",
                self._run.number,
                self._run.name,
                self.patience,
            )
            callback_of(trainer, Curriculum).shorten(trainer)
            is_over = True
        if is_over:
            self._go_back(trainer)

    def _note(self, trainer: L.Trainer, score: float) -> None:
        """Keep the policy if it is the best so far."""
        self._scores.append(score)
        if best_index(self._scores, self.min_delta) < len(self._scores) - 1:
            return
        if self.keep_best:
            folder = callback_of(trainer, Checkpoints).path.parent / "best"
            write_policy(trainer, folder / f"{self._run.number}_{self._run.name}")
        if self.continue_from == "best":
            self._best = {name: own.detach().cpu().clone() for name, own in _trained(trainer)}

    def _go_back(self, trainer: L.Trainer) -> None:
        """Restore the best policy; there is none with ``continue_from: last``, or where nothing could be scored."""
        best, self._best = self._best, {}
        for name, own in _trained(trainer) if best else ():
            own.data.copy_(best[name])
        module_of(trainer).policy.weights_changed()

    def _measure(self, trainer: L.Trainer) -> float | None:
        """Return the score; ``None`` where we could not score a task, which says nothing about the policy."""
        module, data = module_of(trainer), data_of(trainer)
        tasks = {name: data.tasks[name] for name, weight in self._run.stage.tasks.items() if weight > 0}
        examples = {name: self._examples(trainer, name) for name in tasks}
        with module.barrier.guard():
            own = self.evaluator.measure(module.policy, module.engine, tasks, examples, module.seed)
        results = self.evaluator.conclude(own, module.monitor.policy.max_rate)
        for name, result in results.items():
            if result.unscored:
                log.warning("step %d: validation of %s: %s", module.steps_done, name, result.unscored)
                return None
        scores = {f"validation/{name}": result.score.sampled for name, result in results.items()}
        mean = fmean(scores.values())
        for logger in trainer.loggers:
            logger.log_metrics(scores | {"validation/mean": mean}, step=module.steps_done)
        return mean

    def _examples(self, trainer: L.Trainer, task: str) -> list[Example]:
        held_out = data_of(trainer).held_out[task]
        evaluated = {example.uid for example in callback_of(trainer, StageEvaluation).evaluator.choose(held_out)}
        left = [example for example in held_out if example.uid not in evaluated]
        if not left:
            raise BadInput(
                f"validation: the evaluation uses all {len(held_out)} held-out prompts of {task}; lower "
                f"evaluation.evaluator.prompts, so that some are left"
            )
        return left

    def state_dict(self) -> dict[str, Any]:
        """Return the scores of the present stage, and its best policy with ``continue_from: best``."""
        scores = {"number": self._number, "steps": list(self._steps), "scores": list(self._scores)}
        return scores | {"best": dict(self._best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore scores and best policy."""
        self._number, self._steps = state_dict["number"], list(state_dict["steps"])
        self._scores, self._best = list(state_dict["scores"]), dict(state_dict["best"])


def _trained(trainer: L.Trainer) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, own) for name, own in module_of(trainer).named_parameters() if own.requires_grad)
