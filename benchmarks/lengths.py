"""Completions of planned lengths, so that two trainers do the same amount of work."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from copy import copy
from itertools import chain
from typing import Any, Literal, final

import torch
from transformers import PreTrainedModel

from omnithink_pl.model.policy import Policy
from omnithink_pl.rollout import ColocatedVLLM, TransformersEngine

Kind = Literal["transformers", "vllm"]
Plans = Callable[[], Iterator[list[int]]]  # begins the lengths of batch after batch

SHORTEST = 2  # the first token is sampled before the cache has a row for each completion
CACHE_GIB = 0.5


def log_normal(rows: int, median: float, sigma: float, longest: int, seed: int) -> Iterator[list[int]]:
    """Yield lengths of batch after batch: most are short, some very long, as those of a reasoning policy are."""
    rng = random.Random(seed)
    while True:
        drawn = [round(median * rng.lognormvariate(0.0, sigma)) for _ in range(rows)]
        yield [min(max(length, SHORTEST), longest) for length in drawn]


class PlannedLengths:
    """Make a model end each row of a batch at its planned length, and not before.

    It acts on the forward passes that use a cache, which are those of sampling. Ended rows may leave the batch.
    ``stop`` is the token that ends a completion, ``plans`` has the lengths of the rows of each batch, at least 2 each.
    """

    def __init__(self, model: PreTrainedModel, stop: int, plans: Iterator[list[int]]) -> None:
        self.stop, self.plans = stop, plans
        self.rows, self.step = list[int](), 0
        model.register_forward_hook(self._end, with_kwargs=True)

    def _end(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if kwargs.get("past_key_values") is None:
            return
        logits = output.logits[:, -1]
        if kwargs["input_ids"].shape[1] > 1:
            self.rows, self.step = next(self.plans), 0
        self.step += 1
        if self.step > 1 and len(logits) < len(self.rows):
            self.rows = [length for length in self.rows if length >= self.step]
        logits[:, self.stop] = -torch.inf
        if self.step == 1:
            return
        if len(logits) != len(self.rows):
            raise RuntimeError(f"{len(logits)} rows are sampled where {len(self.rows)} were planned")
        ending = torch.tensor(self.rows, device=logits.device) == self.step
        logits[ending] = -torch.inf
        logits[ending, self.stop] = 0.0


def plan_requests(llm: Any, plans: Iterator[list[int]]) -> None:
    """Make a vLLM engine end each sample at its planned length, and not before.

    Its core gets every sample as a request of its own, in the order of the batch.
    """
    core, lengths = llm.llm_engine.engine_core, chain.from_iterable(plans)
    original = core.add_request

    def add_request(request: Any) -> None:
        request.sampling_params = copy(request.sampling_params)  # samples of a prompt may share theirs
        request.sampling_params.min_tokens = request.sampling_params.max_tokens = next(lengths)
        original(request)

    core.add_request = add_request


@final
class PlannedEngine:
    """One of our engines, with planned lengths."""

    def __init__(self, kind: Kind, plans: Plans) -> None:
        vllm = kind == "vllm"
        self.engine = ColocatedVLLM(kv_cache_gib=CACHE_GIB, sleep=False) if vllm else TransformersEngine()
        self.plans, self.sync, self.generate = plans, self.engine.sync, self.engine.generate

    def attach(self, policy: Policy) -> None:
        """Set the policy, and force the lengths on its engine."""
        self.engine.attach(policy)
        if isinstance(self.engine, ColocatedVLLM):
            plan_requests(self.engine._llm, self.plans())
        else:
            PlannedLengths(policy.model, policy.eos_id, self.plans())
