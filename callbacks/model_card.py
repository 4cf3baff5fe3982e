"""Writes the model card of the trained policy, and pushes the policy to the hub on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.errors import BadInput
from omnithink_pl.model.hub import prepare_repository, push
from omnithink_pl.modules import MultiTaskGRPO, PolicyModule
from omnithink_pl.report.model_card import ModelCard
from omnithink_pl.tasks.base import Task

from .checkpoints import Checkpoints
from .lookups import StageCallback, data_of, find_callback, module_of
from .stage_evaluation import StageEvaluation

CARD = "README.md"  # as the hub has it


class PolicyCard(StageCallback):
    """Writes ``README.md`` into the folder of the trained policy: its base, stages, scores, and what it forgot.

    Args:
        push_to_hub: Repository of the Hugging Face hub, such as ``me/my-policy``, that the policy is pushed to when the
            run has ended; made when it starts. Needs ``hf auth login`` or HF_TOKEN.
        private: Whether a repository that is made for it is private.
    """

    def __init__(self, push_to_hub: str | None = None, private: bool = True) -> None:
        self.push_to_hub = push_to_hub
        self.private = private
        self._run: StageRun | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the repository, before anything is evaluated.

        Raises:
            BadInput: If no policy would be saved.
            HubError: If the hub refuses.
        """
        if self.push_to_hub is None:
            return
        saver = find_callback(trainer, Checkpoints)
        if saver is None or not saver.save_policy:
            raise BadInput("model_card.push_to_hub needs a policy to push; set checkpoints.save_policy to true")
        with module_of(trainer).barrier.guard():
            if trainer.is_global_zero:
                prepare_repository(self.push_to_hub, self.private)

    def on_stage_start(self, trainer: L.Trainer, pl_module: PolicyModule, run: StageRun) -> None:
        """Note the plan, which a scheduler or a plateau may have changed."""
        self._run = run

    def on_stage_end(self, trainer: L.Trainer, pl_module: PolicyModule, run: StageRun) -> None:
        """Note the plan as it was trained."""
        self._run = run

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the card beside the weights, which are saved by now, and push both."""
        saver = find_callback(trainer, Checkpoints)
        if saver is None or not saver.save_policy or self._run is None or not trainer.is_global_zero:
            return
        folder = saver.policy_path
        card = self._card(trainer, saver.name, self._run)
        (folder / CARD).write_text(card.markdown(self.push_to_hub or str(folder)))
        if self.push_to_hub is not None:
            Console().print(f"pushed      {push(folder, self.push_to_hub)}", highlight=False, soft_wrap=True)

    def _card(self, trainer: L.Trainer, name: str, run: StageRun) -> ModelCard:
        module, data = module_of(trainer), data_of(trainer)
        evaluation = find_callback(trainer, StageEvaluation)
        return ModelCard(
            title=name,
            base=module.policy_name,
            method=type(module).__name__,
            stages=run.plan,
            matrix=ScoreMatrix() if evaluation is None else evaluation.matrix,
            settings=_settings(trainer, module) | {f"data of {key}": _described(t) for key, t in data.tasks.items()},
            system=next((task.system_prompt for task in data.tasks.values()), ""),
            max_tokens=module.sampling.max_tokens,
        )


def _settings(trainer: L.Trainer, module: PolicyModule) -> dict[str, Any]:
    (optimizer,) = trainer.optimizers
    kind = type(optimizer).__name__
    settings: dict[str, Any] = {
        "seed": module.seed,
        "prompts per step": data_of(trainer).batch_size,
        "completions per prompt": module.sampling.group_size,
        "optimiser": f"{kind}, learning rate {optimizer.param_groups[0]['lr']:g}",
    }
    if isinstance(module, MultiTaskGRPO):
        settings["KL coefficients"] = ", ".join(f"{task} {beta:g}" for task, beta in module.kl.beta.items())
    return settings


def _described(task: Task) -> str:
    """Say what a task's rows are: their class, and where they came from; of a path just the name."""
    kind, path = type(task.source).__name__, getattr(task.source, "path", None)
    place = Path(path).name if isinstance(path, str) and Path(path).exists() else path
    return f"{kind}({place})" if place else kind
