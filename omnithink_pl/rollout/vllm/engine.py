"""A vLLM engine that lives inside the training process and shares its device."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.rollout.base import Finished, Sampling, check_prompts
from omnithink_pl.rollout.stems import Harvest
from omnithink_pl.rollout.vllm.build import build, load_vllm
from omnithink_pl.rollout.vllm.isolation import EngineGroup, isolated
from omnithink_pl.rollout.vllm.requests import finished_requests, stem_requests
from omnithink_pl.rollout.vllm.sleep import Sleep
from omnithink_pl.rollout.vllm.team import Team
from omnithink_pl.rollout.vllm.weights import named_weights

if TYPE_CHECKING:
    from omnithink_pl.policy import Policy
    from omnithink_pl.types import Completion

if TYPE_CHECKING:  # apart: a config that names this class is checked against the above where vLLM is not installed, too
    from vllm import LLM

log = logging.getLogger(__name__)

# Read whenever vLLM is called; set for the while of a call only.
VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine's core in this process: weights are handed over, not sent
    "VLLM_LOGGING_LEVEL": "CRITICAL",  # what goes wrong is raised; besides, vLLM prints its whole state
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # training keeps its cores
    "VLLM_NO_USAGE_STATS": "1",
    "TQDM_DISABLE": "1",
}


class ColocatedVLLM:
    """Samples with vLLM 0.32 in this process, from weights taken over before each batch of rollouts.

    The engine is built in ``attach``, which therefore comes after the process group; each rank has its own. It
    lives as long as the process. Random state, threads, environment and process group stay as they were. What is drawn
    for a prompt depends on the weights, the prompt and the seed, but for rounding not on the prompts beside it.

    Args:
        dtype: Of the engine's weights and cache. ``float32`` agrees with a float32 trainer to 1e-4, ``bfloat16`` is
            faster on GPUs and differs by a few 1e-2 nats: keep ``model.correction`` on.
        max_rows: Completions that are decoded at the same time.
        max_context: Longest prompt with its completion, in tokens; the policy's own context if not given.
        kv_cache_gib: Memory of the key-value cache. If not given, on a GPU what ``gpu_memory_utilization`` leaves.
        gpu_memory_utilization: Share of the GPU's memory for engine weights and cache together; the trainer has
            the rest. Not read on a CPU.
        tensor_parallel_size: Consecutive ranks that share one engine, each with a part of its weights, for a policy
            that one GPU does not hold; a divisor of the number of processes. Above 1 it is untested.
        cuda_graphs: Record CUDA graphs at start-up: slower to start, faster to decode. Not read on a CPU.
        sleep: Release the engine's GPU memory between rollouts. On a CPU there is nothing to release.
    """

    def __init__(
        self,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        max_rows: int = 256,
        max_context: int | None = None,
        kv_cache_gib: float | None = None,
        gpu_memory_utilization: float = 0.3,
        tensor_parallel_size: int = 1,
        cuda_graphs: bool = False,
        sleep: bool = True,
    ) -> None:
        for key, value in (("max_rows", max_rows), ("tensor_parallel_size", tensor_parallel_size)):
            if value < 1:
                raise BadInput(f"model.engine.init_args.{key} is {value}; it is at least 1")
        if not 0 < gpu_memory_utilization < 1:
            raise BadInput(
                f"model.engine.init_args.gpu_memory_utilization is {gpu_memory_utilization}; it lies between 0 and 1"
            )
        load_vllm()
        self.dtype = dtype
        self.max_rows = max_rows
        self.max_context = max_context
        self.kv_cache_gib = kv_cache_gib
        self.gpu_memory_utilization = gpu_memory_utilization
        self.tensor_parallel_size = tensor_parallel_size
        self.cuda_graphs = cuda_graphs
        self.sleep = sleep
        self._group = EngineGroup()
        self._team = Team(tensor_parallel_size)
        self._sleep = Sleep(wanted=sleep)
        self.context = 0
        self._policy: Policy | None = None
        self._llm: LLM | None = None

    def attach(self, policy: Policy) -> None:
        """Build the engine in the shape of a policy and take over its weights.

        Raises:
            BadInput: If the processes cannot be divided into groups of ``tensor_parallel_size``.
            EngineFailure: If it cannot start, for instance for lack of memory.
        """
        self._policy, self.context = policy, self.max_context or policy.context
        self._team.form()
        with self._calling("start"):
            self._llm = build(policy, self, self.context)
        # Its destructor would end the process group that training uses, so it lives until the process ends.
        atexit.register(id, self._llm)
        self.sync()

    def sync(self) -> None:
        """Take over the policy's present weights, and forget what was computed with the ones before.

        Raises:
            EngineFailure: If some weight of the engine did not get a value.
        """
        policy, llm = self._attached()
        with self._calling("take over the weights"), torch.no_grad():
            self._sleep.wake(llm)
            llm.apply_model(lambda model: load_every_weight(model, named_weights(policy.model)))
            # Without it the engine goes on from keys and values of the old weights, and is wrong without a sign.
            llm.reset_prefix_cache()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        begun: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Draw ``sampling.n`` completions for each prompt, as ``RolloutEngine.generate`` has it.

        Raises:
            RuntimeError: Before ``attach``.
            ValueError: If a prompt is empty or leaves no room for ``max_tokens`` in the context.
            EngineFailure: If the engine dies.
        """
        policy, llm = self._attached()
        own = zip(map(tuple, prompts), seeds, map(tuple, begun or [()] * len(prompts)), strict=True)
        asked, mine = self._team.gather(list(own))
        check_prompts([prompt for prompt, _, _ in asked], sampling, self.context)
        if not asked:
            return []
        rows = {place: [row for row, own in enumerate(mine) if own == place] for place in set(mine)}

        def hand_over(place: int, completions: tuple[Completion, ...]) -> None:
            if finished is not None:
                for row in rows.get(place, ()):
                    finished(row, completions)

        all_prompts, all_seeds, all_begun = zip(*asked, strict=True)
        harvest = Harvest(policy, all_prompts, sampling, all_begun, hand_over)
        with self._calling("generate"):
            self._sleep.wake(llm)
            requests = stem_requests(policy, harvest.stems, sampling, all_seeds)
            for place, completions in finished_requests(llm, policy, requests):
                harvest.put(harvest.stems[place], completions)
            self._sleep.sleep(llm)
        groups = harvest.groups()
        return [groups[place] for place in mine]

    def _attached(self) -> tuple[Policy, LLM]:
        if self._policy is None or self._llm is None:
            raise RuntimeError("ColocatedVLLM is used before attach; call attach(policy) once")
        return self._policy, self._llm

    @contextmanager
    def _calling(self, doing: str) -> Iterator[None]:
        """One call of vLLM's: nothing around it changes, and its errors say which setting to look at."""
        # vLLM compiles small functions on first use, which on a CPU takes longer than a short run.
        stance = "default" if self.cuda_graphs else "force_eager"
        try:
            with isolated(self._group, VARIABLES), torch.compiler.set_stance(stance):
                yield
        except torch.OutOfMemoryError as error:
            raise EngineFailure(
                f"vLLM could not {doing}: out of GPU memory. Lower model.engine.init_args.gpu_memory_utilization or "
                f"max_rows, or model.micro_batch_tokens; continue with --ckpt_path last. ({error})"
            ) from error
        except (RuntimeError, ValueError, OSError, AssertionError) as error:
            raise EngineFailure(f"vLLM could not {doing}: {advice(str(error))} ({error})") from error


def load_every_weight(model: torch.nn.Module, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
    """Load weights into vLLM's model, and make sure that none keeps its old value.

    Raises:
        RuntimeError: Names the weights that were left out.
    """
    loaded = model.load_weights(weights)  # type: ignore[operator]
    left_out = sorted(dict(model.named_parameters()).keys() - loaded)
    if left_out:
        raise RuntimeError(f"the policy has no value for the engine's {', '.join(left_out[:5])}")


def advice(message: str) -> str:
    """Which setting is behind one of vLLM's errors, as far as its text tells."""
    text = message.lower()
    if "kv cache" in text or "cache blocks" in text:
        return "its key-value cache is too small; raise model.engine.init_args.kv_cache_gib or lower max_context"
    if "free memory" in text or "out of memory" in text:
        return "too little memory; lower model.engine.init_args.gpu_memory_utilization or model.micro_batch_tokens"
    if "max_model_len" in text:
        return "its context exceeds the policy's; lower model.engine.init_args.max_context"
    return "continue with --ckpt_path last, or use configs/base.yaml's engine."
