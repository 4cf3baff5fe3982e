"""From hidden states to log-probabilities, without ever holding the logits of all tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from omnithink_pl.rollout.sampling import nucleus

# Logits that are alive at a time: 256 MiB in float32, or 441 tokens of a vocabulary of 152k. Three times as much is the
# peak. Larger chunks gained nothing on a CPU.
LOGITS = 2**26


@dataclass(frozen=True)
class Drawn:
    """The tokens that were drawn, and how.

    Args:
        targets: ``[n]`` token ids.
        temperature: Logits are divided by it; above 0.
        top_p: Below 1, the distribution is renormalised over its nucleus and the target.
        logits: Most logits to hold at a time; at least one token's.
    """

    targets: Tensor
    temperature: float = 1.0
    top_p: float = 1.0
    logits: int = LOGITS

    def chunks(self, vocabulary: int) -> Iterator[slice]:
        """Tokens whose logits fit."""
        step = max(1, self.logits // vocabulary)
        return (slice(start, start + step) for start in range(0, len(self.targets), step))

    def scaled(self, logits: Tensor, rows: slice) -> Tensor:
        """Logits of some tokens, at least as float32, at the temperature, minus infinity outside the nucleus."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.temperature != 1.0:
            logits = logits / self.temperature
        return within_nucleus(logits, self.targets[rows], self.top_p)


def statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, and the entropy of its distribution without gradient, both in nats.

    Args:
        logits: ``[n, vocabulary]`` float32.
        targets: ``[n]``.

    Returns:
        Two tensors ``[n]``, float32.
    """
    every = logits.log_softmax(-1)
    chosen = every.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        probabilities = every.exp()
        # A finite number times a probability of 0 is 0; minus infinity times it is not a number.
        clamp = every.clamp if every.requires_grad else every.clamp_
        finite = clamp(min=torch.finfo(every.dtype).min)
        # As a matrix product, the sum needs no third tensor of this size.
        entropy = -torch.bmm(probabilities.unsqueeze(1), finite.unsqueeze(2)).flatten()
    return chosen, entropy


def within_nucleus(logits: Tensor, targets: Tensor, top_p: float) -> Tensor:
    """Logits [tokens, vocabulary] with minus infinity outside the nucleus and the target [tokens].

    The target was inside when it was drawn. It can lie outside now where rounding moves the nucleus's edge, or after
    an update; without it the ratio would be 0 and the token lost.
    """
    if top_p >= 1.0:
        return logits
    with torch.no_grad():
        kept = nucleus(logits.softmax(-1), top_p).scatter_(-1, targets.unsqueeze(-1), True)
    return logits.masked_fill(~kept, -torch.inf)


def project(head: torch.nn.Module, forward: Callable[[Tensor], Tensor], hidden: Tensor, drawn: Drawn) -> Tensor:
    """Log-probabilities and entropies of drawn tokens, the logits of a chunk of them at a time.

    A plain linear head goes through one fused function. Any other (with an adapter, quantised, a subclass of its
    author's) is called for each chunk, and again in the backward pass.

    Args:
        head: The output embedding.
        forward: Its own forward, from hidden states to logits.
        hidden: ``[n, size]`` the hidden states that predict the tokens.
        drawn: The tokens.

    Returns:
        ``[n, 2]`` float32: log-probability, with gradient, and entropy, without.
    """
    if type(head) is torch.nn.Linear:
        weight, bias = (None if part is None else _whole(part) for part in (head.weight, getattr(head, "bias", None)))
        return torch.stack(_Fused.apply(hidden, weight, bias, drawn), -1)  # type: ignore[no-untyped-call]

    def chunk(hidden: Tensor, rows: slice) -> Tensor:
        return torch.stack(statistics(drawn.scaled(forward(hidden), rows), drawn.targets[rows]), -1)

    with torch.no_grad():
        vocabulary = forward(hidden[:1]).shape[-1]
    parts = [checkpoint(chunk, hidden[rows], rows, use_reentrant=False) for rows in drawn.chunks(vocabulary)]
    return torch.cat(parts)


def _whole(parameter: Tensor) -> Tensor:
    """A parameter that is divided among processes, put together; its gradient is divided again."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


class _Fused(torch.autograd.Function):
    """Linear head, log-softmax, gather and entropy.

    With z = W h / T and p = softmax(z): d log p_y / dz = onehot(y) - p. The backward pass computes z again, chunk by
    chunk, so that of the forward pass only h stays.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        ctx.dtype = _compute_dtype(hidden)
        ctx.drawn = drawn
        ctx.save_for_backward(hidden, weight, bias)
        logits = _Logits.of(ctx.dtype, hidden, weight, bias, drawn)
        found = [statistics(logits(rows), drawn.targets[rows]) for rows in drawn.chunks(len(weight))]
        logprobs, entropy = (torch.cat(column) for column in zip(*found, strict=True))
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        drawn, gradient = ctx.drawn, gradients[0]
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        by_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        logits = _Logits.of(ctx.dtype, hidden, weight, bias, drawn)
        for rows in drawn.chunks(len(weight)):
            here = (gradient[rows] / drawn.temperature).unsqueeze(-1)
            by_logits = torch.softmax(logits(rows), -1).mul_(-here)
            by_logits.scatter_add_(-1, drawn.targets[rows].unsqueeze(-1), here)
            by_logits = by_logits.to(ctx.dtype)
            if by_hidden is not None:
                by_hidden[rows] = by_logits @ logits.weight
            if by_weight is not None:
                _add_product(by_weight, by_logits.T, logits.hidden[rows])
            if by_bias is not None:
                by_bias += by_logits.sum(0)
        return by_hidden, by_weight, by_bias, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a matrix product in place, at once where the dtypes allow it."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """Of the head's matrix products: autocast's where it is on."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class _Logits(NamedTuple):
    """Logits of some tokens at a time, their product in the dtype of its factors, everything behind it in float32."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    drawn: Drawn

    @classmethod
    def of(cls, dtype: torch.dtype, hidden: Tensor, weight: Tensor, bias: Tensor | None, drawn: Drawn) -> _Logits:
        """Cast once, not for every chunk."""
        return cls(hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), drawn)

    def __call__(self, rows: slice) -> Tensor:
        return self.drawn.scaled(linear(self.hidden[rows], self.weight, self.bias), rows)
