"""Forward and backward passes over whole layers of the real shapes: utilisation, kernels, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from benchmarks.flops import score_flops
from benchmarks.gpu.case import Case, attention_by, digits, pass_flops, rate, shown
from omnithink_pl.model.budget import Settings, Sizes
from omnithink_pl.model.budget import memory as predicted_memory
from omnithink_pl.model.compilation import compile_layers
from omnithink_pl.model.logprobs import logits_at_a_time, token_logprobs
from omnithink_pl.model.packing import pack_rows

Precision = Literal["bf16-true", "bf16-mixed", "32-true"]
Variant = Literal["plain", "compiled", "liger", "checkpointed"]
DEPTH = 28  # layers of the model of 7B, for which a step is projected
SHOWN = 15  # kernels of a profile


def passes(
    case: Case,
    precision: Precision = "bf16-true",
    variant: Variant = "plain",
    kernel: str = "",
    tokens: int | None = None,
    median: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Time a micro-batch at two depths; their difference is that of layers alone, without embeddings and head.

    ``bf16-true`` is what FSDP2 computes under its mixed precision: it casts weights once, where autocast casts in
    every pass. ``kernel`` is that of attention: ``tiles``, or the one that is chosen otherwise.
    """
    case = case.with_lengths(tokens, median)
    batch, taken, counted = case.micro_batch(), [], []
    row = pack_rows(*batch)
    with attention_by(kernel):
        for depth in case.layers:
            model = prepared(case, depth, precision, variant)
            flops = pass_flops(model, row)
            forward = case.seconds(lambda model=model: run(model, batch, precision, case.device))  # type: ignore[misc]
            both = case.seconds(lambda model=model: learn(model, batch, precision, case.device))  # type: ignore[misc]
            taken.append((forward, both))
            counted.append((flops, score_flops(model.config, shown(row.spans))))
            yield {
                "layers": depth,
                "tokens": row.tokens.numel(),
                "completion_tokens": len(row.targets),
                "tflop": digits(flops / 1e12),
                "forward_ms": digits(1000 * forward),
                "backward_ms": digits(1000 * (both - forward)),
                "forward": rate(flops / 3, forward, case.device),
                "both": rate(flops, both, case.device),
            }
            del model
    added = case.layers[1] - case.layers[0]
    per_layer = (taken[1][1] - taken[0][1]) / added
    flops, scores = ((counted[1][i] - counted[0][i]) / added for i in (0, 1))
    whole = taken[1][1] + (DEPTH - case.layers[1]) * per_layer
    yield {
        "ms_per_layer": digits(1000 * per_layer),
        "attention_share_of_flops": digits(scores / flops),
        "layer": rate(flops, per_layer, case.device),
        "projected_layers": DEPTH,
        "projected_tokens_per_second": digits(row.tokens.numel() / whole),
        "projected": rate(counted[1][0] + (DEPTH - case.layers[1]) * flops, whole, case.device),
    }


def prepared(case: Case, depth: int, precision: Precision, variant: Variant) -> PreTrainedModel:
    """Return a model of random weights, ready to be trained."""
    model = case.model(depth, torch.bfloat16 if precision == "bf16-true" else torch.float32)
    if variant == "compiled":
        compile_layers(model, torch.device(case.device))
    elif variant == "liger":
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    elif variant == "checkpointed":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def run(model: PreTrainedModel, batch: Any, precision: Precision, device: str) -> torch.Tensor:
    """Compute the log-probabilities of a micro-batch as training does."""
    mixed = precision == "bf16-mixed"
    context: AbstractContextManager[Any] = (
        torch.autocast(device, torch.bfloat16, cache_enabled=False) if mixed else nullcontext()
    )
    with context:
        return token_logprobs(model, *batch).logprobs


def learn(model: PreTrainedModel, batch: Any, precision: Precision, device: str) -> None:
    """Run forward and backward pass; gradients add up, as over the micro-batches of a step."""
    run(model, batch, precision, device).sum().backward()


def kernels(case: Case) -> Iterator[dict[str, Any]]:
    """Name the kernels that take most of a forward and backward pass, with their milliseconds and share."""
    batch, model = case.micro_batch(), prepared(case, case.layers[1], "bf16-true", "plain")
    for _ in range(2):
        learn(model, batch, "bf16-true", case.device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if case.device == "cuda" else [])]
    with profile(activities=activities) as found:
        learn(model, batch, "bf16-true", case.device)
        case.synchronize()
    on_gpu = case.device == "cuda"
    time: Callable[[Any], float] = lambda event: event.self_device_time_total if on_gpu else event.self_cpu_time_total  # noqa: E731
    events = sorted(found.key_averages(), key=time, reverse=True)
    total = sum(map(time, events))
    for event in events[:SHOWN]:
        yield {
            "kernel": event.key[:120],
            "calls": event.count,
            "ms": digits(time(event) / 1000),
            "share": digits(time(event) / total),
        }


def memory(case: Case) -> Iterator[dict[str, Any]]:
    """Hold what the budget predicts of a pass to the real peak, without weights and gradients."""
    batch = case.micro_batch()
    row = pack_rows(*batch)
    for precision in ("bf16-true", "bf16-mixed"):
        for variant in ("plain", "checkpointed"):
            model = prepared(case, case.layers[1], precision, variant)  # type: ignore[arg-type]
            learn(model, batch, precision, case.device)  # type: ignore[arg-type]
            with case.peak() as peak:
                learn(model, batch, precision, case.device)  # type: ignore[arg-type]
                real = peak()
            settings = Settings(
                micro_batch_tokens=row.tokens.numel(),
                weights="bfloat16" if precision == "bf16-true" else "float32",
                compute="bfloat16",
                checkpointing=variant == "checkpointed",
                logits=logits_at_a_time(torch.device(case.device)),
            )
            expected = predicted_memory(Sizes.of(model.config), settings)["update"]
            gib = (expected["activations"] + expected["working"]) / 2**30
            yield {
                "precision": precision,
                "checkpointing": variant == "checkpointed",
                "layers": case.layers[1],
                "tokens": row.tokens.numel(),
                "predicted_gib": digits(gib),
                "real_gib": real,
                "ratio": None if real is None else digits(gib / real),
            }
            del model
