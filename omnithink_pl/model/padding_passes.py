"""Passes without effect, where processes compute a sharded model together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from omnithink_pl.distributed.collectives import most_of_processes
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.sharding import sharded_modules

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


# The smallest batch there is: one prompt and one completion, of one token each.
_PROMPTS, _COMPLETIONS = [(0,)], [[(0,)]]


@contextmanager
def in_company(model: PreTrainedModel, passes: int, backward: Callable[[Tensor], None] | None = None) -> Iterator[None]:
    """Go through a sharded model as often as the process with the most micro-batches does.

    Every layer is gathered from all processes in every pass, so one that came earlier to its end would leave the
    others waiting. Models that are not sharded are left alone.

    Args:
        model: The policy, or its reference.
        passes: How often this process goes through it inside; the passes that are missing follow.
        backward: Called with a loss that is 0 and has no gradient, where the passes go backward too.
    """
    # All agree before the first pass: whoever asked afterwards would ask those who wait for its layers.
    missing = most_of_processes(passes, model.device) - passes if sharded_modules(model) else 0
    yield
    for _ in range(missing):
        loss = 0.0 * token_logprobs(model, _PROMPTS, _COMPLETIONS, share_prompt=False).logprobs.sum()
        if backward is not None:
            backward(loss)
