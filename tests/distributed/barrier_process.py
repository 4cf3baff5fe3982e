"""Run as two processes by ``test_failure_barrier.py``: each goes through the scenarios and prints what it saw."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.errors import RankFailure

SHORT = timedelta(seconds=0.2)


@dataclass
class Model:
    steps_done: int
    updating: bool = False


def ending(barrier: FailureBarrier, work: Callable[[], None]) -> list[object]:
    """What a process does by itself, how it ends, and whether it may save."""
    try:
        with barrier.guard():
            work()
    except (RankFailure, ZeroDivisionError) as error:
        return [type(error).__name__, barrier.all_at_same_step()]
    return ["went on", None]


def fine() -> None:
    pass


def broken() -> None:
    raise ZeroDivisionError


def opened(model: Model = Model(5), patience: timedelta = timedelta(seconds=60)) -> FailureBarrier:  # noqa: B008  (not changed)
    barrier = FailureBarrier(patience)
    barrier.setup(model)
    return barrier


def outside(barrier: FailureBarrier, rank: int) -> list[object]:
    """One process fails where nobody watches; the other is told at its next meeting."""
    if rank:
        return ["failed by itself", barrier.all_at_same_step()]
    return ending(barrier, fine)


def absent(barrier: FailureBarrier, rank: int) -> list[object]:
    """One process fails, and the other does not come to a meeting before it is gone."""
    if rank == 0:
        dist.barrier()
        return ending(barrier, fine)
    seen = ending(barrier, broken)
    dist.barrier()
    return seen


def main(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    last = opened()
    second = fine if rank == 0 else broken
    seen = {
        "all is well": ending(opened(), fine),
        "a wish": [opened().any_rank(flag=rank == 1), opened().any_rank()],
        "one fails": ending(opened(), second),
        "both fail": ending(opened(), broken),
        "one fails in an update": ending(opened(Model(5, updating=rank == 1)), second),
        "one is a step ahead": ending(opened(Model(5 + rank)), second),
        "one fails outside": outside(opened(), rank),
        "one does not come": absent(opened(patience=SHORT), rank),
    }
    if rank == 1:
        print(json.dumps(seen), flush=True)
        os._exit(7)  # killed: nothing is closed by itself
    print(json.dumps(seen | {"one is killed": ending(last, fine)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
