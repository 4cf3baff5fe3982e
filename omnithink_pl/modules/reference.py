"""The frozen policy that the KL penalty pulls towards."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PreTrainedModel

Anchor = Literal["base", "stage"]


class ReferencePolicy:
    """A frozen copy of the policy, kept out of the module's parameters.

    Args:
        model: The policy as loaded, before any training.
        anchor: ``base`` keeps the base model for the whole run; ``stage`` takes the policy anew when
            a stage begins, so that a later stage is free to move as far again.
    """

    def __init__(self, model: PreTrainedModel, anchor: Anchor) -> None:
        self.anchor = anchor
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def begin_stage(self, model: PreTrainedModel) -> None:
        """Take over the policy's weights if the anchor is the stage's start."""
        if self.anchor == "stage":
            self.model.load_state_dict(model.state_dict())

    def to(self, device: torch.device) -> None:
        """Move to the policy's device."""
        self.model.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint must hold: nothing for ``base``, which is loaded from its origin."""
        return dict(self.model.state_dict()) if self.anchor == "stage" else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if self.anchor == "stage" and state:
            self.model.load_state_dict(state)
