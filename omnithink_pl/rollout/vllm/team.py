"""Ranks that share one engine: each holds a part of every weight, and all must be asked the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar, final

import torch.distributed as dist

from omnithink_pl.errors import BadInput

Request = TypeVar("Request", bound=Hashable)


@final
class Team:
    """A tensor-parallel group, as vLLM's external launcher has it: consecutive ranks, each with an engine object.

    The engines compute every layer together, so they must be called at the same time with the same requests in the same
    order; nothing tells them of each other's. A rank's own prompts are therefore gathered from all of the team, and
    each takes its share of the completions back.

    Args:
        size: Ranks of a team; 1 where each rank has an engine of its own.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._group: dist.ProcessGroup | None = None

    def form(self) -> None:
        """Make the groups. All ranks call it, once the process group is there.

        Raises:
            BadInput: If the ranks cannot be divided into teams.
        """
        if self.size == 1:
            return
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        if ranks % self.size:
            raise BadInput(
                f"model.engine.init_args.tensor_parallel_size is {self.size}, and {ranks} processes train; take a "
                f"divisor of trainer.devices x trainer.num_nodes"
            )
        for first in range(0, ranks, self.size):
            # Of the CPU: prompts and seeds are Python objects.
            group = dist.new_group(list(range(first, first + self.size)), backend="gloo")
            if first <= dist.get_rank() < first + self.size:
                self._group = group

    def gather(self, requests: Sequence[Request]) -> tuple[list[Request], list[int]]:
        """The requests of the whole team, each distinct one once, in an order that all of it agree on.

        Args:
            requests: This rank's; may be none, but every rank of the team must call.

        Returns:
            All requests, and where among them each of this rank's is.
        """
        parts = [list(requests)] * self.size
        if self.size > 1:
            dist.all_gather_object(parts, list(requests), group=self._group)
        place = {request: i for i, request in enumerate(dict.fromkeys(one for part in parts for one in part))}
        return list(place), [place[request] for request in requests]
