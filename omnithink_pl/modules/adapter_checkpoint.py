"""A checkpoint of adapters, which any number of processes can continue from, sharded or not."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch

from omnithink_pl.adapter import without_frozen


def save_adapters(checkpoint: MutableMapping[str, Any], module: torch.nn.Module, sharded: bool) -> None:
    """Take out what is not trained, and name the optimiser's state by its parameters.

    An optimiser numbers the parameters that it was given. Lightning numbers all parameters of a sharded model, frozen
    ones too, and finds a name for each number when it loads them: names alone mean the same to both.

    Args:
        checkpoint: As Lightning made it.
        module: What is trained.
        sharded: Whether it is divided among processes.
    """
    checkpoint["state_dict"] = without_frozen(checkpoint["state_dict"], module)
    names = dict(enumerate(_names(module, frozen_too=sharded)))
    checkpoint["optimizer_states"] = [_renamed(state, names) for state in checkpoint.get("optimizer_states", [])]


def load_adapters(checkpoint: MutableMapping[str, Any], module: torch.nn.Module) -> None:
    """Number the optimiser's state again, as the optimiser of a model that is not sharded has it.

    Args:
        checkpoint: As :func:`save_adapters` left it.
        module: What is trained.
    """
    numbers = {name: number for number, name in enumerate(_names(module, frozen_too=False))}
    checkpoint["optimizer_states"] = [_renamed(state, numbers) for state in checkpoint.get("optimizer_states", [])]


def _names(module: torch.nn.Module, frozen_too: bool) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad or frozen_too]


def _renamed(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """An optimiser's state under other names; processes but the first have none of a sharded model."""
    if not state:
        return {}
    groups = [{**group, "params": [names.get(one, one) for one in group["params"]]} for group in state["param_groups"]]
    return {"state": {names.get(one, one): values for one, values in state["state"].items()}, "param_groups": groups}
