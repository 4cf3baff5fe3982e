"""A vLLM engine inside the training process, on the same device."""

from __future__ import annotations

import atexit
import gc
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.model.policy import Policy, named_weights
from omnithink_pl.model.precision import computing
from omnithink_pl.rollout.base import (
    DecodingRequest,
    Finished,
    RequestBatch,
    Sampling,
    check_prompts,
    make_completion,
    stop_ids,
)
from omnithink_pl.rollout.vllm.adapters import ServedAdapters
from omnithink_pl.rollout.vllm.loading import load_every_weight
from omnithink_pl.rollout.vllm.process import ProcessState, Sleep, TensorParallelGroup, require_vllm
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

# vLLM reads them whenever it is called; they are set during its calls only.
VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine's core in this process: weights are passed by reference
    "VLLM_LOGGING_LEVEL": "CRITICAL",  # errors are raised; besides, vLLM prints its whole state
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # training keeps its cores
    "VLLM_NO_USAGE_STATS": "1",
    "TQDM_DISABLE": "1",
}


class ColocatedVLLM:
    """Samples with vLLM 0.32 in the training process, from its own copy of the weights on the same device.

    The engine is built in ``attach``, which therefore comes after the process group; each rank has its own. It
    lives as long as the process. Random state, threads, environment and process group stay unchanged. A prompt's
    completions depend on the weights, the prompt and the seed but, up to rounding, not on the other prompts.

    Args:
        dtype: Of the engine's weights and cache. ``float32`` agrees with a float32 trainer to 1e-4, on a GPU to 1e-3;
            ``bfloat16`` is faster on GPUs and differs by a few 1e-2 nats: keep ``model.rollouts.correction`` on.
        max_rows: Completions that are decoded at the same time.
        max_context: Longest prompt with its completion, in tokens; the policy's own context if not given.
        kv_cache_gib: Memory of the key-value cache. If not given, on a GPU what ``gpu_memory_utilization`` leaves.
        gpu_memory_utilization: Share of the GPU's memory for engine weights and cache together; the trainer has
            the rest. Not read on a CPU.
        tensor_parallel_size: Consecutive ranks that share one engine, each with a part of its weights, for a policy
            that one GPU does not hold; a divisor of the number of processes. Above 1 it is untested.
        cuda_graphs: Record CUDA graphs at start-up: slower to start, faster to decode. Not read on a CPU.
        sleep: Release the engine's GPU memory, weights included, between rollouts; the policy's are loaded again before
            the next. On a CPU there is nothing to release.
        serve_adapters: Keep LoRA beside the base model's weights instead of merging it into the engine's: in bfloat16,
            merging loses what is smaller than the spacing of the weight's numbers. Decoding has more to compute.
    """

    def __init__(
        self,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        max_rows: int = 256,
        max_context: int | None = None,
        kv_cache_gib: float | None = None,
        gpu_memory_utilization: float = 0.3,
        tensor_parallel_size: int = 1,
        cuda_graphs: bool = True,
        sleep: bool = True,
        serve_adapters: bool = False,
    ) -> None:
        for key, value in (("max_rows", max_rows), ("tensor_parallel_size", tensor_parallel_size)):
            if value < 1:
                raise BadInput(f"model.engine.init_args.{key} is {value}; it is at least 1")
        if not 0 < gpu_memory_utilization < 1:
            raise BadInput(
                f"model.engine.init_args.gpu_memory_utilization is {gpu_memory_utilization}; it lies between 0 and 1"
            )
        self.dtype = dtype
        self.low_precision = dtype != "float32"
        self.max_rows = max_rows
        self.max_context = max_context
        self.kv_cache_gib = kv_cache_gib
        self.gpu_memory_utilization = gpu_memory_utilization
        self.tensor_parallel_size = tensor_parallel_size
        self.cuda_graphs = cuda_graphs
        self.sleep = sleep
        self.serve_adapters = serve_adapters
        self.context = 0
        self._process = ProcessState()
        self._tensor_parallel = TensorParallelGroup(tensor_parallel_size)
        self._sleep = Sleep(enabled=sleep)
        self._adapters = ServedAdapters()
        self._base_loaded = False
        self._policy: Policy | None = None
        self._llm: LLM | None = None
        self._version: int | None = None  # of the policy's weights that the engine holds

    def check_installed(self) -> None:
        """Raise ``BadInput`` if vLLM is missing; a plan of the run (`budget`) does without."""
        require_vllm()

    def attach(self, policy: Policy) -> None:
        """Build the engine in the shape of a policy and load its weights.

        Raises:
            BadInput: If the processes cannot be divided into groups of ``tensor_parallel_size``, or the policy has no
                adapters that could be served.
            EngineFailure: If it cannot start.
        """
        require_vllm()
        self._policy, self.context, self._version = policy, self.max_context or policy.context, None
        self._tensor_parallel.setup()
        adapters = ServedAdapters.arguments(policy.model) if self.serve_adapters else {}
        with self._vllm_call("start"):
            if self.context > policy.context:  # vLLM would compute LongRoPE otherwise than the trainer
                raise ValueError(f"max_model_len {self.context} is more than {policy.context}")
            self._llm = self._build(policy, adapters)
        atexit.register(id, self._llm)  # keeps it: its destructor would end the process group that training uses
        # At exit it would look for that group, which is gone by then; what else it does there is to let the collector
        # see objects that it had frozen, lest a library reports them as leaked.
        self._llm.llm_engine.engine_core._finalizer.atexit = False
        atexit.register(gc.unfreeze)
        self.sync()

    def sync(self) -> None:
        """Load the policy's current weights, unless the engine holds them, and drop the prefix cache.

        Raises:
            EngineFailure: If some weight of the engine did not get a value.
        """
        policy, llm = self._attached()
        if self._version == policy.version and not self._sleep.without_weights:
            return
        self._version = None  # until every weight is loaded
        with self._vllm_call("load the weights"), torch.no_grad():
            self._load(policy, llm)
            # Keys and values of the old weights would be used without any error.
            llm.reset_prefix_cache()
        self._version = policy.version

    def _load(self, policy: Policy, llm: LLM) -> None:
        """Load all weights, or only the adapters where the engine still has the base model's."""
        dropped = self._sleep.without_weights
        self._sleep.wake_weights(llm)
        if not self.serve_adapters or dropped or not self._base_loaded:
            merged = not self.serve_adapters
            config = llm.llm_engine.vllm_config
            llm.apply_model(lambda model: load_every_weight(model, config, named_weights(policy.model, merged)))
            self._base_loaded = True
        if self.serve_adapters:
            self._adapters.load(llm, policy.model)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        partial: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Sample completions; see ``RolloutEngine.generate``."""
        policy, llm = self._attached()
        if self._sleep.without_weights:  # since the last call; all processes call, which a sharded policy needs
            self.sync()
        own = zip(map(tuple, prompts), seeds, map(tuple, partial or [()] * len(prompts)), strict=True)
        everyone, mine = self._tensor_parallel.gather(list(own))
        check_prompts([prompt for prompt, _, _ in everyone], sampling, self.context)
        if not everyone:
            return []
        rows: dict[int, list[int]] = {}  # of this rank, by index of the distinct request
        for row, index in enumerate(mine):
            rows.setdefault(index, []).append(row)

        def own_finished(index: int, completions: tuple[Completion, ...]) -> None:
            if finished is not None:
                for row in rows.get(index, ()):
                    finished(row, completions)

        all_prompts, all_seeds, all_partial = zip(*everyone, strict=True)
        batch = RequestBatch(policy, all_prompts, sampling, all_partial, own_finished)
        with self._vllm_call("generate"):
            self._sleep.wake_cache(llm, self._version, self._adapters.request)
            for request, completions in _run(llm, policy, batch.requests, sampling, all_seeds, self._adapters.request):
                batch.add(request, completions)
            self._sleep.sleep(llm, self._version, self._adapters.request)
        groups = batch.groups()
        return [groups[index] for index in mine]

    def _attached(self) -> tuple[Policy, LLM]:
        if self._policy is None or self._llm is None:
            raise RuntimeError("ColocatedVLLM is used before attach; call attach(policy) once")
        return self._policy, self._llm

    @contextmanager
    def _vllm_call(self, action: str) -> Iterator[None]:
        """Restore the state of the process after a call of vLLM's, and name the setting behind its errors."""
        # vLLM compiles small functions on first use, which on a CPU takes longer than a short run.
        stance = "default" if self.cuda_graphs and torch.cuda.is_available() else "force_eager"
        policy = self._policy
        assert policy is not None
        try:
            # Under the autocast of a training step an engine of float32 computes NaN on a CPU.
            with (
                self._process.preserved(VARIABLES),
                torch.compiler.set_stance(stance),
                computing(policy.model, None),
            ):
                yield
        except torch.OutOfMemoryError as error:
            raise EngineFailure(
                f"vLLM could not {action}: out of GPU memory. Lower model.engine.init_args.gpu_memory_utilization or "
                f"max_rows, or model.memory.micro_batch_tokens; continue with --ckpt_path last. ({error})"
            ) from error
        except (RuntimeError, ValueError, OSError, AssertionError) as error:
            raise EngineFailure(f"vLLM could not {action}: {advice(str(error))} ({error})") from error

    def _build(self, policy: Policy, adapters: dict[str, Any]) -> LLM:
        """Return an engine with the model's architecture and arbitrary weights, which the first sync replaces.

        Nothing is read from where the policy was loaded: it may have been trained, resumed or made up.
        """
        from vllm import LLM
        from vllm.platforms import current_platform

        with tempfile.TemporaryDirectory(prefix="omnithink-engine-") as directory:
            write_architecture(policy.model, Path(directory))
            return LLM(
                model=directory,
                load_format="dummy",
                trust_remote_code=policy.trust_remote_code,
                skip_tokenizer_init=True,
                generation_config="vllm",
                dtype=self.dtype,
                max_model_len=self.context,
                max_num_seqs=self.max_rows,
                logprobs_mode="processed_logprobs",  # of the distribution sampled from, after temperature and top-p
                seed=0,
                disable_log_stats=True,
                use_tqdm_on_load=False,  # its bars of CUDA graphs are not what a run's console is for
                **adapters,
                **self._device_arguments(current_platform.is_cpu()),
            )

    def _device_arguments(self, is_cpu: bool) -> dict[str, Any]:
        """Return the arguments that depend on the device."""
        if is_cpu:
            arguments: dict[str, Any] = {
                "enforce_eager": True,
                # vLLM 0.32 cannot split a prompt that has a seed of its own: it rewinds the seed's generator by an
                # offset, which generators on a CPU do not have, and dies as soon as the prompts of a batch exceed
                # its token budget.
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(self.context, 4096),
            }
        else:
            arguments = {
                "enforce_eager": not self.cuda_graphs,
                "gpu_memory_utilization": self.gpu_memory_utilization,
                "enable_sleep_mode": self.sleep,
            }
        if self.kv_cache_gib is not None:
            arguments["kv_cache_memory_bytes"] = int(self.kv_cache_gib * 2**30)
        several = dist.is_initialized() and dist.get_world_size() > 1
        if several and (torch.cuda.is_available() or self.tensor_parallel_size > 1):
            # The launcher has placed the ranks on their devices; vLLM joins their process group and divides it into
            # consecutive ranks. It reads what torchrun sets and Lightning's launcher does not; the environment is
            # restored afterwards. On a CPU an engine without tensor parallelism needs no group.
            os.environ["RANK"] = str(dist.get_rank())
            os.environ.setdefault("LOCAL_RANK", str(torch.cuda.current_device() if torch.cuda.is_available() else 0))
            arguments["tensor_parallel_size"] = self.tensor_parallel_size
            arguments["distributed_executor_backend"] = "external_launcher"
        return arguments


def write_architecture(model: PreTrainedModel, directory: Path) -> None:
    """Write the model's configuration as vLLM reads it, for a model that may never have been saved."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    base.config.save_pretrained(directory)
    path = directory / "config.json"
    name = type(base).__name__.removeprefix("FSDP")  # sharding adds it
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": [name]}))


def sampling_arguments(policy: Policy, sampling: Sampling, request: DecodingRequest, seed: int) -> dict[str, Any]:
    """Return a request's arguments of vLLM's ``SamplingParams``, which the server takes under the same names."""
    # vLLM gives the samples of a request the seeds s, s + 1, ...: those of neighbouring prompts must not overlap. Its
    # noise starts anew with each request, so a continued completion has a seed of its index and length.
    suffix = (request.first, request.generated) if request.generated else ()
    return {
        "n": request.copies,
        "temperature": sampling.temperature,
        "top_p": 1.0 if sampling.temperature == 0.0 else sampling.top_p,
        "max_tokens": request.max_new_tokens,
        "stop_token_ids": sorted(stop_ids(policy)),
        "logprobs": 0,  # of the sampled token only
        "seed": derive_seed("request", seed, *suffix),
    }


def _run(
    llm: LLM,
    policy: Policy,
    requests: Sequence[DecodingRequest],
    sampling: Sampling,
    seeds: Sequence[int],
    adapter: LoRARequest | None,
) -> Iterator[tuple[DecodingRequest, list[Completion]]]:
    """Yield each request with its completions as soon as all of them have ended."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine, stops = llm.llm_engine, stop_ids(policy)
    for index, request in enumerate(requests):
        arguments = sampling_arguments(policy, sampling, request, seeds[request.prompt])
        params = SamplingParams(**arguments, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
        engine.add_request(str(index), {"prompt_token_ids": list(request.tokens)}, params, lora_request=adapter)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                completions = []
                for sample in output.outputs:
                    pairs = zip(sample.token_ids, sample.logprobs or (), strict=True)
                    logprobs = [chosen[token].logprob for token, chosen in pairs]
                    completions.append(make_completion(policy, sample.token_ids, logprobs, stops))
                yield requests[int(output.request_id)], completions


def advice(message: str) -> str:
    """Return which setting is behind one of vLLM's errors, as far as its text tells."""
    text, settings = message.lower(), "model.engine.init_args"
    if "kv cache" in text or "cache blocks" in text:
        return f"its key-value cache is too small; raise {settings}.kv_cache_gib or lower max_context"
    if "free memory" in text or "out of memory" in text:
        return f"too little memory; lower {settings}.gpu_memory_utilization or model.memory.micro_batch_tokens"
    if "max_model_len" in text:
        return f"its context exceeds the policy's; lower {settings}.max_context"
    return "continue with --ckpt_path last, or use configs/base.yaml's engine."
