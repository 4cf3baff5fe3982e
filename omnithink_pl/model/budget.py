"""Memory and speed of a run on each GPU, by arithmetic: bytes by purpose, and seconds of a step at best.

Nothing is loaded or measured: parameters are counted on a model without storage, so that a plan for 64 GPUs takes
seconds on a laptop. GiB are 2**30 bytes, a FLOP is one multiplication or addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.model.adapter import LoRA

FLOAT32 = 4
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 4.5 / 8}  # nf4: a scale of 8 bits for 16 weights
# Tensors of each width that a layer keeps per token for its backward pass: see `activations`.
KEPT_HIDDEN, KEPT_HEADS, KEPT_KEYS, KEPT_INNER = 6, 3, 3, 4


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters, and the widths that activations have."""

    parameters: int  # of the policy, without adapters
    trained: int  # parameters with a gradient
    layer: int  # parameters of one layer
    outside: int  # parameters outside of the layers: embeddings and the last norm
    layers: int
    hidden: int  # width of the residual stream
    heads: int  # width of all query heads together
    keys: int  # width of all key heads together; values are as wide
    inner: int  # width of the feed-forward part
    vocabulary: int

    @classmethod
    def of(cls, config: PretrainedConfig, adapter: LoRA | None = None, trust_remote_code: bool = False) -> Sizes:
        """Count the parameters of an architecture without allocating them.

        Args:
            config: Of a decoder with softmax attention and a gated feed-forward part, such as Qwen2 or Llama.
            adapter: How it is adapted; all parameters are trained if not given.
            trust_remote_code: Run code that comes with it.
        """
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        text = config.get_text_config()
        parameters = trained = sum(parameter.numel() for parameter in model.parameters())
        kinds = set(model._no_split_modules or [])
        layers = [sum(p.numel() for p in m.parameters()) for m in model.modules() if type(m).__name__ in kinds]
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        if adapter is not None:
            from peft import get_peft_model

            adapted = get_peft_model(model, adapter.peft_config(), low_cpu_mem_usage=True)
            trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
        return cls(
            parameters=parameters,
            trained=trained,
            layer=max(layers, default=0),
            outside=parameters - sum(layers),
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            heads=text.num_attention_heads * size,
            keys=text.num_key_value_heads * size,
            inner=text.intermediate_size,
            vocabulary=text.vocab_size,
        )


@dataclass(frozen=True)
class Settings:
    """The settings of a run that memory and speed depend on."""

    gpus: int = 1  # processes, one a GPU
    sharded: bool = False  # parameters, gradients and optimiser state are sharded among them (FSDP2)
    weights: str = "float32"  # as the policy is stored: float32, bfloat16 or nf4
    compute: str = "float32"  # of the forward pass: float32 or, with autocast, bfloat16
    adapted: bool = False  # adapters are trained, in float32, instead of the weights
    reference: bool = True  # a second model is kept on the GPU
    optimizer_bytes: float = 8.0  # of the optimiser's state per trained parameter; AdamW's
    optimizer_offloaded: bool = False  # that state is on the GPU during the optimiser's step only
    prompts: int = 8  # of a step, over all GPUs
    group_size: int = 8
    tokens: int = 1024  # of a prompt with its completion, on average
    longest: int = 2048  # of a prompt with its completion, at most
    micro_batch_tokens: int = 8192
    updates: int = 1  # gradient passes over a batch of rollouts
    checkpointing: bool = False
    logits: int | None = None  # numbers in the largest chunk of logits; None: those of a whole micro-batch
    engine_weights: str | None = None  # type of a second copy for the rollouts; None: the policy itself samples
    rows: int = 256  # completions decoded at the same time, at most
    cache_gib: float | None = None  # of keys and values; None: what `rows` of the greatest length need

    @property
    def completions(self) -> int:
        """Completions of a step on each GPU."""
        return self.prompts // self.gpus * self.group_size

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.prompts % self.gpus:
            raise BadInput(f"data.batch_size {self.prompts} must be a multiple of the {self.gpus} GPUs")


def memory(sizes: Sizes, settings: Settings) -> dict[str, float]:
    """Return the bytes on each GPU, by purpose.

    Tensors that live at different times are all listed: a run fits for certain if the sum does. Except that offloaded
    optimiser state takes the place of what only forward and backward passes need: of it, only the excess counts.
    """
    shards = settings.gpus if settings.sharded else 1
    stored = sizes.parameters * BYTES[settings.weights]
    gathered = 0.0
    if settings.sharded:  # two layers and all that lies outside of them; the whole policy if it samples
        gathered = (2 * sizes.layer + sizes.outside) * BYTES[settings.weights]
        gathered = gathered if settings.engine_weights else max(gathered, stored)
    logits = settings.micro_batch_tokens * sizes.vocabulary
    if settings.logits is not None:
        logits = min(logits, settings.logits)
    passing = {
        "gathered": gathered,
        "activations": activations(sizes, settings),
        "logits": 3.0 * FLOAT32 * logits,  # themselves, their softmax, their gradient
    }
    state = sizes.trained * settings.optimizer_bytes / shards
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


def activations(sizes: Sizes, settings: Settings) -> float:
    """Return the bytes that the backward pass of a micro-batch needs.

    A layer keeps for each token: the residual stream twice, for the norms as they compute and twice normalised (6
    widths of the hidden state); queries before and after their rotation and the attended values; keys, twice, and
    values; and four widths of the feed-forward part. Attention keeps no scores (flash, SDPA). With checkpointing only
    the residual stream of each layer is kept, and one layer at a time is recomputed.
    """
    kept = KEPT_HIDDEN * sizes.hidden + KEPT_HEADS * sizes.heads + KEPT_KEYS * sizes.keys + KEPT_INNER * sizes.inner
    widths = sizes.layers * sizes.hidden + kept if settings.checkpointing else sizes.layers * kept
    return float(settings.micro_batch_tokens * widths * BYTES[settings.compute])


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
    """Return the seconds of a step's phases where nothing waits for rewards, the network or the longest completions.

    Training: 2 FLOP a parameter and token forward, 4 backward (2 with adapters: the frozen weights have no gradient),
    2 for the reference and 2 more where activations are recomputed. Decoding reads all weights and the cache of all
    rows for each token of each row.
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
