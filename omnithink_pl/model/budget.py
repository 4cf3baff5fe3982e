"""What a run needs of each GPU, by arithmetic: bytes of memory, and tokens per second at best.

Nothing is loaded or measured: parameters are counted on a model without storage, so that a plan for 64 GPUs takes
seconds on a laptop. GiB are 2**30 bytes, a FLOP is one multiplication or addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from omnithink_pl.model.adapter import LoRA


FLOAT32 = 4
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 4.5 / 8}  # nf4: a scale of 8 bits for 16 weights
# Tensors of the width of a layer that are kept for its backward pass, for each token: counted below.
KEPT_HIDDEN, KEPT_HEADS, KEPT_KEYS, KEPT_INNER = 6, 3, 3, 4


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters, and the widths that activations have.

    Args:
        parameters: Of the policy, without adapters.
        trained: Those that have a gradient.
        layer: Parameters of one layer.
        outside: Parameters outside of the layers: embeddings and the last norm.
        layers: Number of layers.
        hidden: Width of the residual stream.
        heads: Width of all query heads together.
        keys: Width of all key heads together; values are as wide.
        inner: Width of the feed-forward part.
        vocabulary: Number of tokens there are.
    """

    parameters: int
    trained: int
    layer: int
    outside: int
    layers: int
    hidden: int
    heads: int
    keys: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, config: PretrainedConfig, adapter: LoRA | None = None) -> Sizes:
        """Count the parameters of an architecture, without storage for one of them.

        Args:
            config: Of a decoder with softmax attention and a gated feed-forward part, such as Qwen2 or Llama.
            adapter: How it is adapted; all parameters are trained if not given.
        """
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        text = config.get_text_config()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        layer = max(_layers(model), default=0)
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return cls(
            parameters=parameters,
            trained=parameters if adapter is None else _adapters(model, adapter),
            layer=layer,
            outside=parameters - sum(_layers(model)),
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            heads=text.num_attention_heads * size,
            keys=text.num_key_value_heads * size,
            inner=text.intermediate_size,
            vocabulary=text.vocab_size,
        )


def _layers(model: PreTrainedModel) -> list[int]:
    kinds = set(model._no_split_modules or [])
    return [sum(p.numel() for p in m.parameters()) for m in model.modules() if type(m).__name__ in kinds]


def _adapters(model: PreTrainedModel, adapter: LoRA) -> int:
    from peft import get_peft_model

    adapted = get_peft_model(model, adapter.peft_config(), low_cpu_mem_usage=True)
    return sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)


@dataclass(frozen=True)
class Settings:
    """What of a run its memory and speed depend on.

    Args:
        gpus: Processes, one a GPU.
        sharded: Whether parameters, gradients and optimiser state are divided among them (FSDP2).
        weights: Of the policy as it is stored: ``float32``, ``bfloat16`` or ``nf4``.
        compute: Of the forward pass: ``float32`` or, with autocast, ``bfloat16``.
        adapted: Whether adapters are trained, in float32, instead of the weights.
        reference: Whether a second model is kept on the GPU.
        optimizer_bytes: Of the optimiser's state for each trained parameter: 8 for AdamW.
        optimizer_offloaded: Whether that state is on the GPU only while the optimiser takes a step.
        prompts: Of a step, over all GPUs.
        group_size: Completions a prompt.
        tokens: Of a prompt with its completion, on average.
        longest: Of a prompt with its completion, at most.
        micro_batch_tokens: Of one forward pass.
        updates: Passes of gradients over a batch of rollouts.
        checkpointing: Whether a layer's activations are computed again in the backward pass.
        logits: Numbers that the largest chunk of logits has; all of a micro-batch's if not given.
        engine_weights: Of a second copy for the rollouts: its type; ``None`` if the policy itself samples.
        rows: Completions that are decoded at the same time, at most.
        cache_gib: Memory set aside for keys and values; as much as ``rows`` of the greatest length need if not given.
    """

    gpus: int = 1
    sharded: bool = False
    weights: str = "float32"
    compute: str = "float32"
    adapted: bool = False
    reference: bool = True
    optimizer_bytes: float = 8.0
    optimizer_offloaded: bool = False
    prompts: int = 8
    group_size: int = 8
    tokens: int = 1024
    longest: int = 2048
    micro_batch_tokens: int = 8192
    updates: int = 1
    checkpointing: bool = False
    logits: int | None = None
    engine_weights: str | None = None
    rows: int = 256
    cache_gib: float | None = None

    @property
    def completions(self) -> int:
        """Completions of a step on each GPU."""
        return self.prompts // self.gpus * self.group_size

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.prompts % self.gpus:
            raise BadInput(f"data.batch_size {self.prompts} must be a multiple of the {self.gpus} GPUs")


def memory(sizes: Sizes, settings: Settings) -> dict[str, float]:
    """Bytes on each GPU, by what they are for.

    What lives at different times is listed all the same: a run fits for certain if the sum does. But state of the
    optimiser that is offloaded takes the place of what only forward and backward passes need: of it counts what exceeds
    that.

    Args:
        sizes: Of the policy.
        settings: Of the run.
    """
    shards = settings.gpus if settings.sharded else 1
    passing = {
        "gathered": _gathered(sizes, settings),
        "activations": activations(sizes, settings),
        "logits": 3.0 * FLOAT32 * _logits(sizes, settings),  # themselves, their softmax, their gradient
    }
    state = sizes.trained * settings.optimizer_bytes / shards
    stored = sizes.parameters * BYTES[settings.weights]
    adapters = sizes.trained * FLOAT32 if settings.adapted else 0
    return {
        "weights": (stored + adapters) / shards,
        "gradients": sizes.trained * FLOAT32 / shards,
        "optimiser": max(0.0, state - sum(passing.values())) if settings.optimizer_offloaded else state,
        "reference": stored / shards if settings.reference and not settings.adapted else 0.0,
        **passing,
        "engine": sizes.parameters * BYTES[settings.engine_weights] if settings.engine_weights else 0.0,
        "cache": _cache(sizes, settings),
    }


def _gathered(sizes: Sizes, settings: Settings) -> float:
    """What a sharded model gathers: this layer, the next one, and all that lies outside; or all of it to sample."""
    if not settings.sharded:
        return 0.0
    in_training = (2 * sizes.layer + sizes.outside) * BYTES[settings.weights]
    return in_training if settings.engine_weights else max(in_training, sizes.parameters * BYTES[settings.weights])


def activations(sizes: Sizes, settings: Settings) -> float:
    """Bytes that the backward pass of a micro-batch needs.

    A layer keeps for each token: the residual stream twice, for the norms as they compute and twice normalised (6
    widths of the hidden state); queries before and after their rotation and the attended values; keys, twice, and
    values; and four widths of the feed-forward part. Attention keeps no scores (flash, SDPA). With checkpointing only
    the residual stream of each layer is kept, and one layer at a time is computed again.
    """
    kept = KEPT_HIDDEN * sizes.hidden + KEPT_HEADS * sizes.heads + KEPT_KEYS * sizes.keys + KEPT_INNER * sizes.inner
    widths = sizes.layers * sizes.hidden + kept if settings.checkpointing else sizes.layers * kept
    return float(settings.micro_batch_tokens * widths * BYTES[settings.compute])


def _logits(sizes: Sizes, settings: Settings) -> float:
    every = settings.micro_batch_tokens * sizes.vocabulary
    return every if settings.logits is None else min(every, settings.logits)


def _cache(sizes: Sizes, settings: Settings) -> float:
    if settings.cache_gib is not None:
        return settings.cache_gib * 2**30
    rows = min(settings.rows, settings.completions)
    kind = settings.engine_weights or settings.compute
    return rows * settings.longest * 2 * sizes.layers * sizes.keys * BYTES[kind]


@dataclass(frozen=True)
class Machine:
    """One GPU, as its data sheet has it; the defaults are an NVIDIA H100 SXM's.

    Args:
        memory_gib: Memory.
        tflops: Dense bfloat16 matrix products, 10**12 FLOP a second.
        bandwidth: Of the memory, 10**12 bytes a second.
        used: Share of ``tflops`` that training is expected to reach.
        read: Share of ``bandwidth`` that decoding is expected to reach.
    """

    memory_gib: float = 80.0
    tflops: float = 989.0
    bandwidth: float = 3.35
    used: float = 0.4
    read: float = 0.5


def seconds(sizes: Sizes, settings: Settings, machine: Machine) -> dict[str, float]:
    """Seconds of a step's phases where nothing waits: no reward, no network, no long tail of completions.

    Training: 2 FLOP a parameter and token forward, 4 backward (2 with adapters: the frozen weights have no gradient
    of their own), 2 for the reference and 2 more where activations are computed again. Decoding reads all weights
    and the cache of all rows for each token of each row.

    Args:
        sizes: Of the policy.
        settings: Of the run.
        machine: One of its GPUs.
    """
    rows = settings.completions
    kind = BYTES[settings.engine_weights or settings.weights]
    cached = rows * settings.tokens / 2 * 2 * sizes.layers * sizes.keys * kind
    read = math.ceil(rows / settings.rows) * sizes.parameters * kind + cached
    passes = settings.updates * ((4 if settings.adapted else 6) + (2 if settings.checkpointing else 0))
    passes += 2 if settings.reference else 0
    return {
        "rollout": settings.tokens * read / (machine.bandwidth * machine.read * 1e12),
        "update": passes * sizes.parameters * rows * settings.tokens / (machine.tflops * machine.used * 1e12),
    }
