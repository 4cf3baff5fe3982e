"""The frozen reference policy of the KL penalty."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import final

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from omnithink_pl.grpo.kl_control import KLSettings, Reference
from omnithink_pl.model.precision import gathered_in
from omnithink_pl.model.sharding import assign, shard


class ReferencePolicy(ABC):
    """What the KL penalty pulls towards, kept out of the module's parameters.

    Args:
        anchor: ``base`` keeps the base model for the whole run; ``stage`` takes the policy anew when
            a stage begins, so that a later stage is free to move as far again.
    """

    def __init__(self, anchor: Reference) -> None:
        self.anchor = anchor

    @abstractmethod
    def active(self) -> AbstractContextManager[PreTrainedModel]:
        """Provide the reference model; the policy must not be used inside."""

    @abstractmethod
    def begin_stage(self, model: PreTrainedModel) -> None:
        """Copy what is trained of the policy if the anchor is the stage's start."""

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Set the device of the policy."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights that a checkpoint must hold: none for ``base``, which is loaded from its origin."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the weights."""


@final
class FrozenCopy(ReferencePolicy):
    """A second model.

    Args:
        model: The policy as loaded, before any training and before it is sharded.
        anchor: ``base`` or ``stage``.
        offload: Keep it in host memory except while it is used, which is once a batch of rollouts.
    """

    def __init__(self, model: PreTrainedModel, anchor: Reference, offload: bool = False) -> None:
        super().__init__(anchor)
        self.offload = offload
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._device = torch.device("cpu")

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel]:
        """Provide the copy, on the policy's device."""
        self.model.to(self._device, non_blocking=True)  # from memory that the way back has pinned
        try:
            yield self.model
        finally:
            if self.offload:
                self.model.to("cpu", non_blocking=True)
                if self._device.type == "cuda":
                    torch.cuda.synchronize()  # a checkpoint, and a new stage, read and write what was copied

    @torch.no_grad()
    def begin_stage(self, model: PreTrainedModel) -> None:
        """Copy the policy's weights if the anchor is the stage's start."""
        if self.anchor == "stage":
            for own, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
                own.copy_(theirs.to(own.device))

    def to(self, device: torch.device) -> None:
        """Move to the policy's device, now or when it is used."""
        self._device = device
        if not self.offload:
            self.model.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all weights where the anchor is a stage's start."""
        if self.anchor != "stage":
            return {}
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the weights."""
        if self.anchor == "stage" and state:
            assign(dict(self.model.named_parameters()), state)


@final
class AdaptedReference(ReferencePolicy):
    """The policy's own model without its present LoRA adapters: no second model.

    For ``base`` the adapters are scaled by 0, which leaves exactly the frozen weights. For ``stage`` the present
    adapters are swapped with a copy of those at the stage's start. ``model`` is the policy, wrapped by PEFT.
    """

    def __init__(self, model: PreTrainedModel, anchor: Reference) -> None:
        super().__init__(anchor)
        self.model = model
        self._start: dict[str, Tensor] = {}

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel]:
        """Provide the policy's model with other adapters."""
        # Not model.disable_adapter(): it makes the adapters untrainable inside, and a sharded model keeps that
        # for ever if it gathers them for the first time inside.
        from peft.helpers import rescale_adapter_scale

        if not self._start:  # nothing has been trained, or the anchor is the base
            with rescale_adapter_scale(self.model, 0.0):
                yield self.model
            return
        present = self._copied_adapters()
        self._put(self._start)
        try:
            yield self.model
        finally:
            self._put(present)

    def begin_stage(self, model: PreTrainedModel) -> None:
        """Copy the adapters if the anchor is the stage's start."""
        if self.anchor == "stage":
            self._start = self._copied_adapters()

    def to(self, device: torch.device) -> None:
        """Move the adapters of a checkpoint to the policy's device."""
        self._start = {name: value.to(device) for name, value in self._start.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the adapters of the stage's start."""
        return dict(self._start)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the adapters of the stage's start."""
        if self.anchor == "stage" and state:
            self._start = self._copied_adapters()
            assign(self._start, state)

    def _copied_adapters(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.model.get_parameter(name).copy_(value)


def reference_policy(
    model: PreTrainedModel,
    settings: KLSettings,
    offload: bool = False,
    mesh: DeviceMesh | None = None,
    compute: torch.dtype | None = None,
) -> ReferencePolicy | None:
    """Build the cheapest reference that suffices; none where every coefficient is 0.

    Args:
        model: The policy as loaded, before any training.
        settings: What the penalty pulls towards, and how much.
        offload: Keep a second model, where one is needed, in host memory between uses.
        mesh: Processes that a second model is sharded among.
        compute: The policy's dtype of forward passes.
    """
    if not settings.penalises:
        return None
    if hasattr(model, "peft_config"):
        return AdaptedReference(model, settings.reference)
    frozen = FrozenCopy(model, settings.reference, offload)
    if mesh is not None:
        shard(frozen.model, mesh, gathered_in(compute))
    return frozen
