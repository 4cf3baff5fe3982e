"""Log-probabilities of completions, with gradients, without ever holding the logits of all tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from omnithink_pl.model.architecture import accepted
from omnithink_pl.model.compilation import is_compiled
from omnithink_pl.model.packed_attention import PackedAttention, cannot_share, enable_packed_attention
from omnithink_pl.model.packing import Packing, Padding, pack_rows, pad_rows
from omnithink_pl.model.products import add_product, is_plain, linear, replaced_forward
from omnithink_pl.model.sharding import full

# Fewest logits of a chunk: 256 MiB in float32, or 441 tokens of a vocabulary of 152k. More gained nothing on a CPU.
LOGITS = 2**26
# What stands in place of an unused logit. It comes out changed where a model scales, caps or rounds its logits.
CANARY = 12.3456789
# How transformers' configs name what a model does to its logits.
REWRITES = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_logit_soft_cap",
    "logits_soft_cap",
    "logits_mup_width_multiplier",
    "lm_head_multiplier",
)


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probability and entropy of each token of N completions, the longest of which has T."""

    logprobs: Tensor  # [N, T] natural log pi(o_t | x, o_<t), float32; 0 behind a completion's end
    entropy: Tensor  # [N, T] of the distribution that each token was sampled from, nats, without gradient; 0 likewise
    mask: Tensor  # [N, T] true where there is a token


def token_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[Sequence[int]]],
    temperature: float = 1.0,
    share_prompt: bool = True,
    padding: Padding = "right",
    top_p: float = 1.0,
) -> TokenLogprobs:
    """Compute the log-probabilities of the completions of each prompt.

    With ``share_prompt`` all tokens lie in one row without padding, each prompt once, computed with gradient for all
    its completions. It needs a model whose layers are all softmax attention that transformers dispatches by name.
    Without it every completion is a padded row of its own, which works for any causal language model.

    Logits exist only where a completion token is predicted, and only for a chunk of tokens at a time; where a model
    scales or caps its logits (Gemma, Cohere, Granite, ...), for all of a micro-batch.

    Args:
        model: A causal language model.
        prompts: Token ids of each prompt.
        completions: Token ids of the completions of each prompt; none is empty.
        temperature: Logits are divided by it, as when sampling; above 0.
        share_prompt: Compute each prompt once for its completions.
        padding: Side on which separate rows are padded; the result does not depend on it.
        top_p: As when sampling: the distribution is renormalised over the model's own nucleus, to which the sampled
            token always belongs.

    Returns:
        Rows in group order: all completions of the first prompt, then those of the second, and so on.

    Raises:
        BadInput: If the model cannot share prompts.
        ValueError: If a prompt or completion is empty.
    """
    packing = pack_rows(prompts, completions) if share_prompt else pad_rows(prompts, completions, padding)
    if share_prompt:
        check_shareable(model, packing.longest)
        enable_packed_attention(model)
    most, compiled = logits_at_a_time(model.device), torch.is_grad_enabled() and is_compiled(model)
    sampled = SampledTokens(packing.targets.to(model.device), temperature, top_p, most, compiled)
    config = model.config.get_text_config(decoder=True)
    rewritten = any(getattr(config, name, None) not in (None, 1, 1.0) for name in REWRITES)
    found = None if rewritten else _chunked(model, packing, sampled)
    return _pad_completions(_whole(model, packing, sampled) if found is None else found, packing.lengths)


def _pad_completions(found: Tensor, lengths: Sequence[int]) -> TokenLogprobs:
    """Lay out log-probability and entropy of all tokens, ``[n, 2]``, as padded rows, ``[N, T]``."""
    mask = torch.arange(max(lengths), device=found.device) < torch.tensor(lengths, device=found.device).unsqueeze(-1)
    zeros = torch.zeros(mask.shape, dtype=found.dtype, device=found.device)
    logprobs, entropy = (zeros.masked_scatter(mask, column) for column in found.unbind(-1))
    return TokenLogprobs(logprobs, entropy.detach(), mask)


def check_shareable(model: PreTrainedModel, longest: int) -> None:
    """Refuse a model that cannot share prompts, as far as its config tells.

    Args:
        model: A causal language model.
        longest: Tokens of the longest prompt with its completion.

    Raises:
        BadInput: If some layer is no softmax attention, or reaches back less far.
    """
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention", "sliding_attention"])
    window = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
    reason = ""
    if not kinds <= {"full_attention", "sliding_attention"}:
        reason = f"it has layers of kind {sorted(kinds)}"
    elif window and longest > window:  # Qwen2-MoE: 0 means none
        reason = f"sequences of {longest} tokens exceed its sliding window of {window}"
    if reason:
        raise cannot_share(type(model).__name__, reason)


def _chunked(model: PreTrainedModel, packing: Packing, sampled: SampledTokens) -> Tensor | None:
    """Return ``[n, 2]`` log-probability and entropy of each completion token; ``None`` if the model changes its logits.

    They leave the model in place of its logits, so that wrappers that watch a model's outputs (sharding above all) see
    them.
    """
    head = model.get_output_embeddings()
    own, source = head.forward, packing.source.to(model.device)

    def forward(hidden: Tensor) -> Tensor:
        found = head_logprobs(head, own, hidden.flatten(0, 1).index_select(0, source), sampled).unsqueeze(0)
        return torch.cat([found, torch.full_like(found[..., :1], CANARY)], -1)  # no view: sharding warns of them

    with replaced_forward(head, forward):
        found = _run(model, packing)
    canary = found[:, 2].detach()
    unchanged = torch.full_like(canary, CANARY, dtype=torch.promote_types(found.dtype, torch.float32))
    return found[:, :2] if torch.equal(canary, unchanged) else None


def _whole(model: PreTrainedModel, packing: Packing, sampled: SampledTokens) -> Tensor:
    """Return the same from the model's own logits, computed only where a completion token is predicted."""
    head, source = model.get_output_embeddings(), packing.source.to(model.device)
    own = head.forward
    with replaced_forward(head, lambda hidden: own(hidden.flatten(0, 1).index_select(0, source).unsqueeze(0))):
        logits = _run(model, packing)
    return torch.stack(logprobs_and_entropy(sampled.scaled(logits, slice(None)), sampled.targets), -1)


def _run(model: PreTrainedModel, packing: Packing) -> Tensor:
    attention = PackedAttention(packing.spans) if packing.spans else None
    # Four dimensions: transformers passes such a mask on as it is. Packed attention does not read it.
    mask = packing.mask if attention is None else packing.mask.bool().view(1, 1, 1, -1)
    arguments = accepted(
        model,
        attention_mask=mask.to(model.device),
        position_ids=packing.positions.to(model.device),
        use_cache=False,
        **({} if attention is None else {"packed": attention}),
    )
    if attention is not None and not {"packed", "position_ids"} <= arguments.keys():
        raise cannot_share(type(model).__name__, "its forward takes no position_ids, or no attention of ours")
    logits = model(input_ids=packing.tokens.to(model.device), **arguments).logits[0]
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    if attention is not None and attention.calls < layers:
        reason = f"only {attention.calls} of its {layers} layers let their attention be replaced"
        raise cannot_share(type(model).__name__, reason)
    return logits


def logits_at_a_time(device: torch.device) -> int:
    """Return how many logits a chunk has on a device."""
    return chunk_of_logits(torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0)


def chunk_of_logits(memory: float) -> int:
    """Return how many logits a chunk has: with what is made of them, three times as many, a 32nd of a GPU's memory.

    Each chunk reads the head's weight, and adds to its gradient where that is trained. By an H100's data sheet that
    lasts longer than the products for 441 tokens of Qwen2.5-7B, and a third as long for 1,454.

    Args:
        memory: Of the GPU, in bytes; 0 on a CPU.
    """
    return max(LOGITS, int(memory / (32 * 3 * torch.float32.itemsize)))


@dataclass(frozen=True)
class SampledTokens:
    """The sampled tokens whose log-probabilities are computed, and how they were sampled."""

    targets: Tensor  # ``[n]`` token ids
    temperature: float = 1.0  # logits are divided by it; above 0
    top_p: float = 1.0  # below 1, the distribution is renormalised over its nucleus and the target
    logits: int = LOGITS  # most logits to hold at a time; at least one token's
    compiled: bool = False  # what a plain linear head makes of them is compiled, unless there is a nucleus

    @property
    def fused(self) -> bool:
        """Whether what is made of logits is compiled."""
        return self.compiled and self.top_p >= 1.0

    def chunks(self, vocabulary: int) -> Iterator[slice]:
        """Yield chunks of tokens whose logits fit."""
        step = max(1, self.logits // vocabulary)
        return (slice(start, start + step) for start in range(0, len(self.targets), step))

    def scaled(self, logits: Tensor, rows: slice) -> Tensor:
        """Return logits of some tokens, at least as float32, at the temperature, minus infinity outside the nucleus."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if self.top_p >= 1.0:
            return logits
        with torch.no_grad():
            # The target was inside when it was sampled. It can lie outside now where rounding moves the nucleus's edge,
            # or after an update; without it the ratio would be 0 and the token lost.
            kept = nucleus(logits.softmax(-1), self.top_p).scatter_(-1, self.targets[rows].unsqueeze(-1), True)
        return logits.masked_fill(~kept, -torch.inf)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Return the smallest set of most likely tokens with probability at least ``top_p``, as true of [rows, vocabulary].

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, before < top_p)


def logprobs_and_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target, and the entropy of its distribution without gradient, both in nats.

    From float32 logits ``[n, vocabulary]`` and targets ``[n]`` to two float32 tensors ``[n]``.
    """
    every = logits.log_softmax(-1)
    chosen = every.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):  # it would multiply in bfloat16
        probabilities = every.exp()
        # A finite number times a probability of 0 is 0; minus infinity times it is not a number.
        clamp = every.clamp if every.requires_grad else every.clamp_
        finite = clamp(min=torch.finfo(every.dtype).min)
        # As a matrix product, the sum needs no third tensor of this size.
        entropy = -torch.bmm(probabilities.unsqueeze(1), finite.unsqueeze(2)).flatten()
    return chosen, entropy


def head_logprobs(
    head: torch.nn.Module, forward: Callable[[Tensor], Tensor], hidden: Tensor, sampled: SampledTokens
) -> Tensor:
    """Compute log-probabilities and entropies of sampled tokens, with the logits of one chunk of them at a time.

    A plain linear head goes through one fused function. Any other (with an adapter, quantised, a subclass) is called
    for each chunk, and again in the backward pass.

    Args:
        head: The output embedding.
        forward: Its own forward, from hidden states to logits.
        hidden: ``[n, size]`` the hidden states that predict the tokens.
        sampled: The tokens.

    Returns:
        ``[n, 2]`` float32: log-probability, with gradient, and entropy, without.
    """
    if is_plain(head):
        # Gathered where they are sharded; their gradients are sharded again.
        weight, bias = (None if part is None else full(part) for part in (head.weight, getattr(head, "bias", None)))
        return torch.stack(_FusedHead.apply(hidden, weight, bias, sampled), -1)  # type: ignore[no-untyped-call]

    def chunk(hidden: Tensor, rows: slice) -> Tensor:
        return torch.stack(logprobs_and_entropy(sampled.scaled(forward(hidden), rows), sampled.targets[rows]), -1)

    with torch.no_grad():
        vocabulary = forward(hidden[:1]).shape[-1]
    parts = [checkpoint(chunk, hidden[rows], rows, use_reentrant=False) for rows in sampled.chunks(vocabulary)]
    return torch.cat(parts)


class _FusedHead(torch.autograd.Function):
    """Linear head, log-softmax, gather and entropy.

    With z = W h / T and p = softmax(z): d log p_y / dz = onehot(y) - p. The backward pass recomputes z, chunk by
    chunk, so that of the forward pass only h is kept. Below a frozen head a token's gradient is known but for its
    factor: then d log p_y / dh is computed along with z, and kept alone. Products are in the compute dtype, all else
    in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, sampled: SampledTokens
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        ctx.sampled = sampled
        ctx.frozen = ctx.needs_input_grad[:3] == (True, False, False)
        by_hidden = torch.empty_like(hidden) if ctx.frozen else None
        ctx.save_for_backward(*((by_hidden,) if ctx.frozen else (hidden, weight, bias)))
        hidden, weight, bias = _cast(ctx.dtype, hidden, weight, bias)
        found, ones = [], hidden.new_ones(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        for rows in sampled.chunks(len(weight)):
            logits = _ready(linear(hidden[rows], weight, bias), sampled, rows)
            found.append(_from_logits(logits, sampled, rows))
            if by_hidden is not None:
                by_hidden[rows] = linear(_by_logits(logits, ones, sampled, rows).to(ctx.dtype), weight.T)
        logprobs, entropy = (torch.cat(column) for column in zip(*found, strict=True))
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        sampled, gradient = ctx.sampled, gradients[0]
        if ctx.frozen:
            (by_hidden,) = ctx.saved_tensors
            return (by_hidden * gradient.unsqueeze(-1)).to(by_hidden.dtype), None, None, None
        hidden, weight, bias = ctx.saved_tensors
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        # Sums over chunks are float32 also where the head itself is bfloat16, as it is where FSDP2 gathers it so.
        sums = torch.promote_types(weight.dtype, torch.float32)
        by_weight = torch.zeros_like(weight, dtype=sums) if ctx.needs_input_grad[1] else None
        by_bias = torch.zeros_like(bias, dtype=sums) if ctx.needs_input_grad[2] else None
        dtype = weight.dtype
        hidden, weight, bias = _cast(ctx.dtype, hidden, weight, bias)
        for rows in sampled.chunks(len(weight)):
            logits = _ready(linear(hidden[rows], weight, bias), sampled, rows)
            by_logits = _by_logits(logits, gradient, sampled, rows).to(ctx.dtype)
            if by_hidden is not None:
                by_hidden[rows] = linear(by_logits, weight.T)
            if by_weight is not None:
                add_product(by_weight, by_logits.T, hidden[rows])
            if by_bias is not None:
                by_bias += by_logits.sum(0)
        return by_hidden, *(None if one is None else one.to(dtype) for one in (by_weight, by_bias)), None


def _ready(logits: Tensor, sampled: SampledTokens, rows: slice) -> Tensor:
    """Return some tokens' logits as the next two functions take them: as they are for a compiler, else scaled."""
    return logits if sampled.fused else sampled.scaled(logits, rows)


def _from_logits(logits: Tensor, sampled: SampledTokens, rows: slice) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and entropies of some tokens, float32."""
    if sampled.fused:
        return _compiled(_fused_from_logits)(logits, sampled.targets[rows], sampled.temperature)
    return logprobs_and_entropy(logits, sampled.targets[rows])


def _by_logits(logits: Tensor, gradient: Tensor, sampled: SampledTokens, rows: slice) -> Tensor:
    """Return the gradient by some tokens' logits, ``[rows, vocabulary]``, from that by log-probabilities."""
    here = (gradient[rows] / sampled.temperature).unsqueeze(-1)
    if sampled.fused:
        return _compiled(_fused_by_logits)(logits, sampled.targets[rows], here, sampled.temperature)
    return torch.softmax(logits, -1).mul_(-here).scatter_add_(-1, sampled.targets[rows].unsqueeze(-1), here)


def _fused_from_logits(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute what :func:`logprobs_and_entropy` does, written for a compiler: it reads the logits twice."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    total = scaled.logsumexp(-1, keepdim=True)
    every = scaled - total
    entropy = -(every.exp() * every.clamp(min=torch.finfo(every.dtype).min)).sum(-1)
    return (scaled.gather(-1, targets.unsqueeze(-1)) - total).squeeze(-1), entropy


def _fused_by_logits(logits: Tensor, targets: Tensor, here: Tensor, temperature: float) -> Tensor:
    """Compute what :func:`_by_logits` does, written for a compiler: without a scatter, which ends a kernel."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    target = torch.arange(logits.shape[-1], device=logits.device) == targets.unsqueeze(-1)
    return (here * (target.to(scaled.dtype) - scaled.softmax(-1))).to(logits.dtype)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


def _cast(
    dtype: torch.dtype, hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast once, not for every chunk."""
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
