"""Run as two processes by ``test_team.py``: each prints what it would ask, and what of it is its own."""

from __future__ import annotations

import json
import sys

import torch.distributed as dist

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm.engine import Team

# Requests of each rank: prompts with their seeds.
DIFFERENT = [[("p", 1), ("q", 2)], [("r", 3)]]
THE_SAME = [[("p", 1), ("q", 2)], [("p", 1), ("q", 2)]]
ONE_HAS_NONE = [[], [("p", 1), ("p", 2)]]


def refused(size: int) -> str:
    try:
        Team(size).form()
    except BadInput as error:
        return str(error)
    return ""


def main(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    shared, alone = Team(2), Team(1)
    shared.form()
    alone.form()
    seen = [shared.gather(each[rank]) for each in (DIFFERENT, THE_SAME, ONE_HAS_NONE)]
    print(json.dumps({"shared": seen, "alone": alone.gather(DIFFERENT[rank]), "refused": refused(3)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
