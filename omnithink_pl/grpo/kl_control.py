"""The KL penalty of each task: its settings, and coefficients that follow a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

from omnithink_pl.errors import BadInput

Reference = Literal["base", "stage"]  # what the penalty pulls towards


@dataclass(frozen=True)
class KLSettings:
    """KL penalty: its coefficients, its reference, and targets that coefficients may follow.

    Coefficients of tasks with a target follow the proportional controller in log space of Ziegler et al. 2019,
    "Fine-Tuning Language Models from Human Preferences" (arXiv 1909.08593, section 2.2), for each task k:

        e_k = clip((KL_k - target_k) / target_k, -clip, clip)
        beta_k <- beta_k (1 + gain e_k)

    KL_k is ``train/<task>/kl`` of a step: the mean over the tokens of the task's completions, in nats. (They use the
    sum over a completion; a mean does not depend on its length.) A step without the task leaves its beta unchanged.

    Args:
        beta: KL coefficient: a number for all tasks, or one for each; the initial value where a task has a target. All
            0: no reference is held or computed.
        reference: What the penalty pulls towards: the ``base`` model, or the policy at the ``stage``'s start. With an
            adapter neither needs a second model.
        targets: KL target of a task, in nats per token; the beta of tasks that are not named stays fixed.
        gain: K_beta: the largest relative change of beta in a step is ``gain`` times ``clip``.
        clip: Largest relative error that counts.

    Raises:
        BadInput: If a value is out of range, or a task with a target starts at beta 0, which no factor changes.
    """

    beta: float | dict[str, float] = 0.0
    reference: Reference = "base"
    targets: dict[str, float] = field(default_factory=dict)
    gain: float = 0.1
    clip: float = 0.2

    def __post_init__(self) -> None:
        betas = self.beta.items() if isinstance(self.beta, dict) else [("", self.beta)]
        for task, beta in betas:
            if beta < 0.0:
                raise BadInput(f"{f'model.kl.beta.{task}'.strip('.')} is {beta}; use 0 (no penalty) or more")
        for task, target in self.targets.items():
            if target <= 0.0:
                raise BadInput(f"model.kl.targets.{task} is {target}; use a positive number of nats per token")
            start = self.coefficient(task)
            if not start:
                raise BadInput(
                    f"model.kl.targets.{task}: a target multiplies model.kl.beta.{task}, which is "
                    f"{'missing' if start is None else start}; start above 0, such as {task}: 0.01, or drop the target"
                )
        if not 0.0 < self.gain * self.clip < 1.0:
            raise BadInput(f"model.kl: gain {self.gain} times clip {self.clip} must lie between 0 and 1")

    def coefficient(self, task: str) -> float | None:
        """Return a task's coefficient at the start; ``None`` where it has none."""
        return self.beta.get(task) if isinstance(self.beta, dict) else self.beta

    @property
    def penalises(self) -> bool:
        """Whether any coefficient is not 0."""
        return any(self.beta.values()) if isinstance(self.beta, dict) else self.beta != 0.0


@final
class KLController:
    """The KL coefficient of each task, in ``beta``; see :class:`KLSettings` for the control law.

    Args:
        settings: Coefficients and targets.
        tasks: Names of the tasks.

    Raises:
        BadInput: If a task has no coefficient.
    """

    def __init__(self, settings: KLSettings, tasks: Iterable[str]) -> None:
        self.settings = settings
        self.beta: dict[str, float] = {}
        for task in tasks:
            beta = settings.coefficient(task)
            if beta is None:
                raise BadInput(f"model.kl.beta has no entry for the task {task!r}; give one, such as {task}: 0.01")
            self.beta[task] = beta

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Adapt the coefficients to a step's ``train/<task>/kl``, missing where it did not have the task."""
        limit = self.settings.clip
        for task, target in self.settings.targets.items():
            measured = metrics.get(f"train/{task}/kl")
            if measured is not None:
                error = max(-limit, min(limit, (measured - target) / target))
                self.beta[task] *= 1.0 + self.settings.gain * error

    def metrics(self) -> dict[str, float]:
        """Return the present coefficients that follow a target."""
        return {f"train/{task}/beta": self.beta[task] for task in self.settings.targets}

    def state_dict(self) -> dict[str, Any]:
        """Return the coefficients that follow a target."""
        return {"beta": {task: self.beta[task] for task in self.settings.targets}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them; a task whose target is new starts at ``model.kl.beta``."""
        self.beta |= {task: beta for task, beta in state["beta"].items() if task in self.settings.targets}
