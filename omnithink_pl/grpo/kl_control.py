"""KL coefficients that follow a target, one per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from omnithink_pl.grpo.settings import KLSettings


@final
class KLController:
    """The KL coefficient of each task, in ``beta``; see :class:`KLSettings` for the control law.

    Args:
        settings: Initial coefficients, and the targets they follow.
    """

    def __init__(self, settings: KLSettings) -> None:
        self.settings = settings
        self.beta = dict(settings.beta)

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Adapt the coefficients to the KL measured in a step.

        Args:
            metrics: Those of the step, with ``train/<task>/kl`` where it had the task.
        """
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
