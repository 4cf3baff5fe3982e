"""Memory and speed of a run on each GPU, by arithmetic: bytes by purpose, and seconds of a step at best.

Nothing is loaded or measured: parameters are counted on a model without storage, so that a plan for 64 GPUs takes
seconds on a laptop. GiB are 2**30 bytes, a FLOP is one multiplication or addition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.model.adapter import LoRA

FLOAT32 = 4
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 4.5 / 8}  # nf4: a scale of 8 bits for 16 weights
# Tensors of each width that a layer keeps per token for its backward pass: see `kept`.
KEPT_HIDDEN, KEPT_HEADS, KEPT_KEYS, KEPT_INNER = 4, 3, 3, 4
NORMS = 2 * FLOAT32  # bytes per token and hidden width: the inputs of both norms, which compute in float32
GRAPHS = 2.0**30  # bytes of recorded CUDA graphs, which stay while the engine sleeps


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
    compute: str = "float32"  # of the forward pass: float32 or bfloat16; by autocast, or if sharded by FSDP2
    adapted: bool = False  # adapters are trained, in float32, instead of the weights
    reference: bool = True  # a second model is kept on the GPU
    optimizer_bytes: float = 8.0  # of the optimiser's state per trained parameter; AdamW's
    optimizer_offloaded: bool = False  # that state is on the GPU during the optimiser's step only
    prompts: int = 8  # of a step, over all GPUs
    group_size: int = 8
    tokens: int = 1024  # of a prompt with its completion, on average
    prompt_tokens: int = 256  # of the prompt alone
    longest: int = 2048  # of a prompt with its completion, at most
    micro_batch_tokens: int = 8192
    updates: int = 1  # gradient passes over a batch of rollouts
    checkpointing: bool = False
    kept_layers: int = 0  # with checkpointing, layers that keep their activations all the same
    logits: int | None = None  # numbers in the largest chunk of logits; None: those of a whole micro-batch
    engine_weights: str | None = None  # type of a second copy for the rollouts; None: the policy itself samples
    rows: int = 256  # completions decoded at the same time, at most
    cache_gib: float | None = None  # of keys and values; None: what the share leaves, or what `rows` need
    engine_share: float | None = None  # of the GPU, for the engine's weights and cache together
    engine_sleeps: bool = False  # it holds nothing during updates
    cuda_graphs: bool = False  # it decodes by recorded graphs
    reference_offloaded: bool = False  # it is on the GPU only before the gradient passes
    reduce_once: bool = False  # of a sharded model: whole gradients are kept until the last micro-batch

    @property
    def second_model(self) -> bool:
        """Whether the reference is a model of its own; with adapters it is the policy without them."""
        return self.reference and not self.adapted

    @property
    def completions(self) -> int:
        """Completions of a step on each GPU."""
        return self.prompts // self.gpus * self.group_size

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.prompts % self.gpus:
            raise BadInput(f"data.batch_size {self.prompts} must be a multiple of the {self.gpus} GPUs")


@dataclass(frozen=True)
class Machine:
    """One GPU, as its data sheet has it; the defaults are an NVIDIA H100 SXM's.

    Args:
        memory_gib: Memory.
        tflops: Dense bfloat16 matrix products, 10**12 FLOP a second.
        bandwidth: Of the memory, 10**12 bytes a second.
        tflops_float32: The same in float32, without TF32.
        used: Share of ``tflops`` that training is expected to reach.
        read: Share of ``bandwidth`` that decoding is expected to reach.
        launch_ms: Milliseconds that a layer takes to be launched in decoding without CUDA graphs.
    """

    memory_gib: float = 80.0
    tflops: float = 989.0
    tflops_float32: float = 67.0
    bandwidth: float = 3.35
    used: float = 0.4
    read: float = 0.5
    launch_ms: float = 0.4


def memory(sizes: Sizes, settings: Settings, machine: Machine = Machine()) -> dict[str, dict[str, float]]:
    """Return the bytes on each GPU, by phase of a step and by purpose; the largest phase decides.

    Tensors of a phase are listed as they are alive together. A test holds the largest of the trainer's phases within
    15 % of what PyTorch's memory tracker finds (benchmarks/tracked.py).
    """
    shards = settings.gpus if settings.sharded else 1
    adapters = sizes.trained * FLOAT32 if settings.adapted else 0
    weights = sizes.parameters * BYTES[settings.weights]
    reference = weights / shards if settings.second_model else 0.0
    state = sizes.trained * settings.optimizer_bytes / shards
    held = {
        "weights": (weights + adapters) / shards,
        "optimiser": 0.0 if settings.optimizer_offloaded else state,
        "reference": 0.0 if settings.reference_offloaded else reference,
    }
    gradients = sizes.trained * FLOAT32 / shards
    whole = sizes.trained * FLOAT32 if settings.sharded and settings.reduce_once else 0.0
    asleep = {name: 0.0 if settings.engine_sleeps else size for name, size in _engine(sizes, settings, machine).items()}
    graphs = {"graphs": GRAPHS if settings.cuda_graphs else 0.0}
    own = held | {"gathered": _gathered_to_sample(sizes, settings)}
    return {
        "rollout": own | _engine(sizes, settings, machine) | graphs,
        "update": held | {"gradients": gradients + whole} | _passes(sizes, settings) | asleep | graphs,
        # PyTorch's optimisers make a copy of what they step.
        "optimiser": held | {"optimiser": state, "gradients": gradients, "working": gradients} | asleep | graphs,
    }


def peak(phases: Mapping[str, Mapping[str, float]]) -> float:
    """Return the bytes of the largest phase."""
    return max(sum(parts.values()) for parts in phases.values())


def _passes(sizes: Sizes, settings: Settings) -> dict[str, float]:
    """Return the bytes of a micro-batch's forward and backward pass.

    Beside what all layers keep, the largest of three counts: the head with a chunk of its logits and its gradient; one
    layer that is computed backward; and, of a sharded model, the reduction of the embeddings' gradients at the end.
    """
    width = BYTES[settings.compute]
    gathered = width if settings.sharded else 0.0  # bytes of each gathered number
    tokens, full = settings.micro_batch_tokens, 0.0 if settings.adapted else 1.0  # whether all weights are trained
    head = sizes.vocabulary * sizes.hidden
    logits = min(tokens * sizes.vocabulary, settings.logits or math.inf)
    layer = kept(sizes, settings)  # of one layer, while it is computed backward
    all_kept = activations(sizes, settings)
    by_head = 3 * FLOAT32 * logits + full * head * (FLOAT32 + width) + 2 * tokens * sizes.hidden * width
    # A layer that is computed again has its activations beside those that are kept; not where the last layers keep
    # theirs, which are freed by then.
    again = layer if settings.checkpointing and not settings.kept_layers else 0.0
    by_layer = 2 * tokens * sizes.inner * width + again
    by_layer += gathered * (2 * sizes.layer + full * (head + sizes.layer))
    by_layer += full * FLOAT32 * sizes.layer if settings.sharded and not settings.reduce_once else 0.0
    reduced = (gathered + FLOAT32 + FLOAT32 / settings.gpus) * full * sizes.outside if settings.sharded else 0.0
    return {
        "gathered": gathered * sizes.outside,
        "activations": all_kept,
        "working": max(by_head, by_layer, reduced - all_kept),
    }


def activations(sizes: Sizes, settings: Settings) -> float:
    """Return the bytes that all layers keep of a micro-batch for the backward pass.

    Of a layer that is checkpointed only the residual stream before it is kept, which under autocast is float32.
    """
    stream = FLOAT32 if _casts(settings) else BYTES[settings.compute]
    again = recomputed(sizes, settings)
    return float(
        (sizes.layers - again) * kept(sizes, settings) + again * settings.micro_batch_tokens * sizes.hidden * stream
    )


def recomputed(sizes: Sizes, settings: Settings) -> int:
    """Return how many layers the backward pass computes again."""
    return sizes.layers - settings.kept_layers if settings.checkpointing else 0


def room_for_layers(sizes: Sizes, settings: Settings, machine: Machine) -> int:
    """Return how many layers could keep their activations within nine tenths of the memory; with checkpointing."""
    plans = (memory(sizes, replace(settings, kept_layers=n), machine) for n in range(sizes.layers + 1))
    return sum(peak(plan) <= 0.9 * machine.memory_gib * 2**30 for plan in plans) - 1


def kept(sizes: Sizes, settings: Settings) -> float:
    """Return the bytes that one layer keeps of a micro-batch for its backward pass.

    For each token: the inputs of both norms in float32, and normalised, once before and once after the scale; queries
    before and after their rotation and the attended values; keys, twice, and values; and four widths of the
    feed-forward part. Attention keeps no scores (flash, SDPA). Autocast keeps more: a residual stream of float32, a
    cast of it for each of the five matrices that read it, and of each float32 weight; and of every adapter's input.
    """
    width = BYTES[settings.compute]
    hidden, heads, inner, weights = NORMS + KEPT_HIDDEN * width, KEPT_HEADS * width, KEPT_INNER * width, 0.0
    if _casts(settings):
        hidden, weights = 2 * NORMS + 5 * width, sizes.layer * width
    if settings.adapted and settings.compute == "bfloat16" and not settings.sharded:
        hidden, heads, inner = hidden + 5 * width, heads + width, inner + width
    tokens = hidden * sizes.hidden + heads * sizes.heads + KEPT_KEYS * width * sizes.keys + inner * sizes.inner
    return float(settings.micro_batch_tokens * tokens + weights)


def _casts(settings: Settings) -> bool:
    """Return whether autocast casts float32 weights: FSDP2 gathers them in the dtype of the forward pass."""
    return settings.compute == "bfloat16" and settings.weights == "float32" and not settings.sharded


def _gathered_to_sample(sizes: Sizes, settings: Settings) -> float:
    """Return the bytes of the weights that are gathered, or cast, to sample or to load them into an engine."""
    if settings.engine_weights:
        return float(sizes.vocabulary * sizes.hidden * FLOAT32) if settings.sharded else 0.0  # one tensor at a time
    if settings.sharded or _casts(settings):
        return sizes.parameters * BYTES[settings.compute]
    return 0.0


def _engine(sizes: Sizes, settings: Settings, machine: Machine) -> dict[str, float]:
    """Return the bytes of the engine's own weights, and of the keys and values of the rollouts."""
    weights = sizes.parameters * BYTES[settings.engine_weights] if settings.engine_weights else 0.0
    if settings.cache_gib is not None:
        cache = settings.cache_gib * 2**30
    elif settings.engine_weights and settings.engine_share:
        cache = max(0.0, settings.engine_share * machine.memory_gib * 2**30 - weights)
    else:
        rows = min(settings.rows, settings.completions)
        kind = BYTES[settings.engine_weights or settings.compute]
        cache = rows * settings.longest * 2 * sizes.layers * sizes.keys * kind
    return {"engine": weights, "cache": cache}


def seconds(sizes: Sizes, settings: Settings, machine: Machine) -> dict[str, float]:
    """Return the seconds of a step's phases where nothing waits for rewards or the network.

    Training: 2 FLOP a parameter and token forward, 4 backward (2 with adapters: the frozen weights have no gradient),
    2 for the reference and 2 more for layers that are recomputed, at the rate of the dtype that computes. Decoding
    takes as many passes as the longest completion has tokens, for as many rows as fit at a time; each reads all
    weights and, without CUDA graphs, waits for each layer to be launched. Reads of the cache follow the average.
    """
    rows = settings.completions
    kind = BYTES[settings.engine_weights or settings.weights]
    passes = math.ceil(rows / settings.rows) * (settings.longest - settings.prompt_tokens)
    cached = rows * (settings.tokens - settings.prompt_tokens) * (settings.tokens + settings.prompt_tokens) / 2
    read = passes * sizes.parameters * kind + cached * 2 * sizes.layers * sizes.keys * kind
    launched = 0.0 if settings.cuda_graphs else passes * sizes.layers * machine.launch_ms / 1e3
    again = 2 * recomputed(sizes, settings) / sizes.layers
    work = settings.updates * ((4 if settings.adapted else 6) + again)
    work += 2 if settings.reference else 0
    rate = machine.tflops if settings.compute == "bfloat16" else machine.tflops_float32
    return {
        "rollout": read / (machine.bandwidth * machine.read * 1e12) + launched,
        "update": work * sizes.parameters * rows * settings.tokens / (rate * machine.used * 1e12),
    }
