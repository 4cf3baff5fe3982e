"""Engines whose completions have planned lengths, ours and TRL's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import copy
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, final

import torch

from benchmarks.lengths import PlannedLengths
from omnithink_pl.rollout import ColocatedVLLM, TransformersEngine

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.types import Completion

Kind = Literal["transformers", "vllm"]
Plans = Callable[[], Iterator[list[int]]]

CACHE_GIB = 0.5


@final
class PlannedEngine:
    """One of our engines; each completion has its planned length.

    Args:
        kind: Which.
        plans: Begins the lengths of batch after batch.
    """

    def __init__(self, kind: Kind, plans: Plans) -> None:
        vllm = kind == "vllm"
        self.engine = ColocatedVLLM(kv_cache_gib=CACHE_GIB, sleep=False) if vllm else TransformersEngine()
        self.plans = plans

    def attach(self, policy: Policy) -> None:
        """Take the policy to sample from."""
        self.engine.attach(policy)
        if isinstance(self.engine, ColocatedVLLM):
            plan_requests(self.engine._llm, self.plans())
        else:
            PlannedLengths(policy.model, policy.eos_id, self.plans())

    def sync(self) -> None:
        """Take over the policy's present weights."""
        self.engine.sync()

    def generate(self, *args: Any, **kwargs: Any) -> list[tuple[Completion, ...]]:
        """Draw completions, as ``RolloutEngine.generate`` has it."""
        return self.engine.generate(*args, **kwargs)


def plan_requests(llm: Any, plans: Iterator[list[int]]) -> None:
    """Let a vLLM engine end each sample at its planned length, and not before.

    Its core gets every sample as a request of its own, in the order of the batch.
    """
    core, lengths = llm.llm_engine.engine_core, chain.from_iterable(plans)
    own = core.add_request

    def add_request(request: Any) -> None:
        request.sampling_params = copy(request.sampling_params)  # siblings may share theirs
        request.sampling_params.min_tokens = request.sampling_params.max_tokens = next(lengths)
        own(request)

    core.add_request = add_request


def vllm_for_trl(settings: ExitStack) -> None:
    """Give TRL's colocated vLLM what our engine has, in this process from now on.

    TRL 1.16 hands neither dtype nor compilation nor the size of the cache to vLLM, and cannot load weights where vLLM
    has packed them, as it does on a CPU.

    Args:
        settings: Keeps them until it is closed.
    """
    from omnithink_pl.rollout.vllm.loading import without_packed_weights

    from omnithink_pl.rollout.vllm.engine import VARIABLES

    os.environ.update(VARIABLES)
    settings.enter_context(torch.compiler.set_stance("force_eager"))
    settings.enter_context(without_packed_weights())
    from trl.generation import vllm_generation

    own = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": int(CACHE_GIB * 2**30)}
    vllm_generation.LLM = partial(vllm_generation.LLM, **own)
