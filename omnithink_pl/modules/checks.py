"""Settings that contradict each other or the method, refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.tasks.base import Task


def check_settings(
    group_size: int,
    temperature: float,
    updates_per_batch: int,
    beta: Mapping[str, float],
    tasks: Mapping[str, Task],
) -> None:
    """Refuse settings of a module that cannot train.

    Raises:
        BadInput: Names the key and the cure.
    """
    if group_size < 2:
        raise BadInput(f"model.group_size is {group_size}; advantages compare completions, so use 2 or more")
    if temperature <= 0:
        raise BadInput(f"model.temperature is {temperature}; training samples, so use a positive temperature")
    if updates_per_batch < 1:
        raise BadInput(f"model.updates_per_batch is {updates_per_batch}; use 1 or more")
    for name in tasks:
        if name not in beta:
            raise BadInput(f"model.beta has no entry for the task {name!r}; give one, such as {name}: 0.01")
