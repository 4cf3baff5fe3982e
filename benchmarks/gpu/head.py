"""The head's log-probabilities by size of their chunks: speed against memory."""

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
    for logits in (LOGITS // 4, LOGITS, 4 * LOGITS):
        sampled = SampledTokens(targets, logits=logits)

        def both(sampled: SampledTokens = sampled) -> None:
            head_logprobs(layer, layer.forward, states, sampled)[:, 0].sum().backward()

        both()  # gradients are there before memory is measured
        with case.peak() as peak:
            taken = case.seconds(both)
            most = peak()
        flops = 8 * len(targets) * vocabulary * hidden  # logits are computed twice
        row = {"logits": logits, "tokens": len(targets), "ms": digits(1000 * taken), "peak_gib": most}
        yield row | rate(flops, taken, case.device)
