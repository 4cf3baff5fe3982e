"""Optimiser state on its way to the host and back, and the optimiser's step between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.case import Case, digits
from omnithink_pl.model.memory import HostedState


def offload(case: Case) -> Iterator[dict[str, Any]]:
    """Measure AdamW's step, our round trip, and plain and pinned copies as its bounds; GiB count once each way."""
    numbers = 2**28 if case.device == "cuda" else 2**16
    weight = torch.nn.Parameter(torch.zeros(numbers, device=case.device))
    optimizer = torch.optim.AdamW([weight], lr=1e-6, fused=True)
    weight.grad = torch.ones_like(weight)
    step = case.seconds(optimizer.step)
    yield {"parameters": numbers, "adamw_fused_ms": digits(1000 * step), "gib_per_second": gib(28 * numbers, step)}
    hosted = HostedState(optimizer)

    def once(call: Callable[[], None]) -> float:
        case.synchronize()
        began = time.perf_counter()
        call()
        case.synchronize()
        return time.perf_counter() - began

    state = 8 * numbers
    for turn in range(3):  # the first allocates
        out, back = once(hosted.release), once(hosted.fetch)
        yield {"turn": turn, "release_gib_per_second": gib(state, out), "fetch_gib_per_second": gib(state, back)}
    if case.device == "cuda":
        source, target = torch.empty(state, device="cuda", dtype=torch.int8), torch.empty(state, dtype=torch.int8)
        for pinned in (False, True):
            host = target.pin_memory() if pinned else target
            to_host = case.seconds(lambda host=host: host.copy_(source, non_blocking=True))  # type: ignore[misc]
            to_device = case.seconds(lambda host=host: source.copy_(host, non_blocking=True))  # type: ignore[misc]
            yield {"pinned": pinned, "to_host_gib_per_second": gib(state, to_host),
                   "to_device_gib_per_second": gib(state, to_device)}  # fmt: skip


def gib(size: int, seconds: float) -> float:
    """Return GiB a second."""
    return digits(size / seconds / 2**30)
