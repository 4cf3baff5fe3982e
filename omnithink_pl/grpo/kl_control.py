"""KL coefficients that follow a target, one per task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from omnithink_pl.errors import BadInput


@dataclass(frozen=True)
class KLTargets:
    """How far each task may take the policy from the reference.

    The proportional controller in log space of Ziegler et al. 2019, "Fine-Tuning Language Models from Human
    Preferences" (arXiv 1909.08593, section 2.2), for each task k:

        e_k = clip((KL_k - target_k) / target_k, -clip, clip)
        beta_k <- beta_k (1 + gain e_k)

    KL_k is ``train/<task>/kl`` of a step: the mean over the tokens of the task's completions, in nats. (They use the
    sum over a completion; a mean does not depend on its length.) A step without the task leaves its beta alone.

    Args:
        targets: Nats per token; tasks that are not named keep ``model.beta``, which is where the others start.
        gain: K_beta, how much a step may change beta at most, relative to ``clip``.
        clip: Largest relative error that counts.
    """

    targets: dict[str, float] = field(default_factory=dict)
    gain: float = 0.1
    clip: float = 0.2

    def __post_init__(self) -> None:
        for task, target in self.targets.items():
            if target <= 0.0:
                raise BadInput(f"model.kl.targets.{task} is {target}; use a positive number of nats per token")
        if not 0.0 < self.gain * self.clip < 1.0:
            raise BadInput(f"model.kl: gain {self.gain} times clip {self.clip} must lie between 0 and 1")


@final
class KLController:
    """The KL coefficients of a run.

    Args:
        beta: Where they start.
        targets: What they follow.

    Raises:
        BadInput: If a task that has a target starts at 0, where a factor changes nothing.
    """

    def __init__(self, beta: Mapping[str, float], targets: KLTargets) -> None:
        for task in targets.targets:
            if beta.get(task, 0.0) <= 0.0:
                raise BadInput(
                    f"model.kl.targets.{task}: a target multiplies model.beta.{task}, which is "
                    f"{beta.get(task, 'missing')}; start above 0, such as {task}: 0.01, or drop the target"
                )
        self.beta = dict(beta)
        self.targets = targets

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Move the coefficients by what a step measured.

        Args:
            metrics: Those of the step, with ``train/<task>/kl`` where it had the task.
        """
        for task, target in self.targets.targets.items():
            measured = metrics.get(f"train/{task}/kl")
            if measured is not None:
                limit = self.targets.clip
                error = max(-limit, min(limit, (measured - target) / target))
                self.beta[task] *= 1.0 + self.targets.gain * error

    def metrics(self) -> dict[str, float]:
        """The coefficients that follow a target, as they stand."""
        return {f"train/{task}/beta": self.beta[task] for task in self.targets.targets}

    def state_dict(self) -> dict[str, Any]:
        """The coefficients."""
        return {"beta": {task: self.beta[task] for task in self.targets.targets}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; a task that has a target now and had none starts at ``model.beta``."""
        self.beta |= {task: beta for task, beta in state["beta"].items() if task in self.targets.targets}
