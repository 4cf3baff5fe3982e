"""The head's log-probabilities by size of their chunks, compiled or not: speed against memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.case import Case, digits, rate
from omnithink_pl.model.logprobs import LOGITS, SampledTokens, head_logprobs
from omnithink_pl.model.packing import pack_rows


def head(case: Case) -> Iterator[dict[str, Any]]:
    """Time forward and backward for the completion tokens of a micro-batch, and count the operations of both."""
    vocabulary, hidden = case.shape["vocab_size"], case.shape["hidden_size"]
    targets = pack_rows(*case.micro_batch()).targets.to(case.device)
    dtype = torch.bfloat16 if case.device == "cuda" else torch.float32
    layer = torch.nn.Linear(hidden, vocabulary, bias=False, device=case.device, dtype=dtype)
    states = torch.randn(len(targets), hidden, device=case.device, dtype=dtype, requires_grad=True)
    for logits, compiled in ((LOGITS, False), (LOGITS, True), (4 * LOGITS, False), (4 * LOGITS, True)):
        sampled = SampledTokens(targets, logits=logits, compiled=compiled)

        def both(sampled: SampledTokens = sampled) -> None:
            head_logprobs(layer, layer.forward, states, sampled)[:, 0].sum().backward()

        both()  # gradients are there before memory is measured
        with case.peak() as peak:
            taken = case.seconds(both)
            most = peak()
        flops = 8 * len(targets) * vocabulary * hidden  # logits are computed twice
        row = {"logits": logits, "compiled": compiled, "tokens": len(targets), "ms": digits(1000 * taken)}
        yield row | {"peak_gib": most} | rate(flops, taken, case.device)
    yield {"gradient_error": digits(gradient_error(layer, states, SampledTokens(targets)))}


def gradient_error(layer: torch.nn.Linear, states: torch.Tensor, sampled: SampledTokens) -> float:
    """Return the norm of the error of the weight's gradient, relative to that in float32."""
    gradients = []
    for dtype in (layer.weight.dtype, torch.float32):
        weight = layer.weight.detach().to(dtype).requires_grad_()
        head = torch.nn.Linear(*reversed(weight.shape), bias=False, device="meta", dtype=dtype)
        head.weight = torch.nn.Parameter(weight)
        head_logprobs(head, head.forward, states.detach().to(dtype), sampled)[:, 0].sum().backward()
        gradients.append(head.weight.grad.float())  # type: ignore[union-attr]
    return float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
