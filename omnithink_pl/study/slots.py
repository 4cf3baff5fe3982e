"""How many processes run at the same time, and which device each has."""

from __future__ import annotations

import os
from collections.abc import Sequence

from omnithink_pl.errors import BadInput

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def make_slots(jobs: int | None, gpus: Sequence[str]) -> list[dict[str, str]]:
    """The environment of each process that may run at the same time.

    Args:
        jobs: Number of processes; one for each GPU, or one alone without GPUs, if not given.
        gpus: Names of the GPUs, as CUDA knows them. More processes than GPUs share them evenly.

    Raises:
        BadInput: If ``jobs`` is less than 1.
    """
    if jobs is not None and jobs < 1:
        raise BadInput(f"jobs is {jobs}; use 1 or more, or leave it out for one process per GPU")
    number = jobs or max(1, len(gpus))
    if len(gpus) < 2:
        return [{} for _ in range(number)]
    return [{_VISIBLE: gpus[index % len(gpus)]} for index in range(number)]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by number or name."""
    import torch

    named = os.environ.get(_VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]
