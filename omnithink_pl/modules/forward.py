"""Log-probabilities of completions under a model, with gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnithink_pl.modules.layout import Layout, Padding, packed, separate
from omnithink_pl.rollout.sampling import nucleus

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TokenLogprobs:
    """What a model says about each token of N completions, the longest of which has T.

    Args:
        logprobs: Natural log pi(o_t | x, o_<t), float32 of shape [N, T]; 0 behind a completion's end.
        entropy: Entropy in nats of the distribution that each token was drawn from, of shape [N, T],
            without gradient; 0 behind the end.
        mask: True where there is a token, of shape [N, T].
    """

    logprobs: Tensor
    entropy: Tensor
    mask: Tensor


def token_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[Sequence[int]]],
    temperature: float = 1.0,
    share_prompt: bool = True,
    padding: Padding = "right",
    top_p: float = 1.0,
) -> TokenLogprobs:
    """Log-probabilities of the completions of each prompt.

    With ``share_prompt`` a prompt's forward is computed once, with gradient, for all its completions: they
    follow it in one row, and a mask keeps siblings from seeing each other. It needs a model whose
    layers are all softmax attention over ``sdpa`` or ``eager``; without it every completion is a
    row of its own, which works for any causal language model.

    Args:
        model: A causal language model.
        prompts: Token ids of each prompt.
        completions: Token ids of the completions of each prompt; none is empty.
        temperature: Logits are divided by it, as when sampling; above 0.
        share_prompt: Compute each prompt once for its completions.
        padding: Side on which short rows are padded; the result does not depend on it.
        top_p: As when sampling: the distribution is renormalised over the model's own nucleus, to which the token
            that was drawn always belongs.

    Returns:
        Rows in group order: all completions of the first prompt, then those of the second, and so on.

    Raises:
        ValueError: If the model cannot share prompts, or a prompt or completion is empty.
    """
    layout = packed(prompts, completions, padding) if share_prompt else separate(prompts, completions, padding)
    if share_prompt:
        _check_shareable(model, int(layout.positions.max()) + 1)
    mask = layout.tree_mask(model.dtype) if share_prompt else layout.padding_mask()
    with _predicting_only(model, layout.source.to(model.device)):
        logits = model(
            input_ids=layout.tokens.to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=layout.positions.to(model.device),
            use_cache=False,
        ).logits[0]
    drawn = [token for siblings in completions for completion in siblings for token in completion]
    targets = torch.tensor(drawn, device=logits.device)
    logits = logits.float() / temperature
    return _gather(within_nucleus(logits, targets, top_p), targets, layout)


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


def _gather(logits: Tensor, targets: Tensor, layout: Layout) -> TokenLogprobs:
    """Spread what the logits [tokens, vocabulary] say about the targets [tokens] over [N, T]."""
    lengths = torch.tensor(layout.lengths, device=logits.device)
    mask = torch.arange(max(layout.lengths), device=logits.device) < lengths.unsqueeze(-1)
    every = logits.log_softmax(-1)
    with torch.no_grad():
        entropy = torch.zeros(mask.shape, device=logits.device)
        # A finite number times a probability of 0 is 0; minus infinity times it is not a number.
        entropy[mask] = -(every.exp() * every.clamp(min=torch.finfo(every.dtype).min)).sum(-1)
    chosen = every.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    logprobs = torch.zeros(mask.shape, device=logits.device).masked_scatter(mask, chosen)
    return TokenLogprobs(logprobs, entropy, mask)


@contextmanager
def _predicting_only(model: PreTrainedModel, source: Tensor) -> Iterator[None]:
    """Let the output embedding see only the hidden states that predict a completion token.

    Logits dominate the memory of a training step with a large vocabulary; a hook in front of
    the output embedding leaves the model's own treatment of logits (scaling, soft caps) in place.
    """

    def select(_: torch.nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        hidden = args[0]
        return (hidden.flatten(0, 1)[source].unsqueeze(0),)

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def _check_shareable(model: PreTrainedModel, longest: int) -> None:
    config = model.config
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    reason = ""
    if config._attn_implementation not in ("sdpa", "eager"):
        reason = f"attention {config._attn_implementation!r} takes no mask of its own; use sdpa"
    elif not kinds <= {"full_attention", "sliding_attention"}:
        reason = f"it has layers of kind {sorted(kinds)}"
    elif window is not None and longest > window:
        reason = f"sequences of {longest} tokens exceed its sliding window of {window}"
    if reason:
        raise ValueError(f"{type(model).__name__} cannot share prompts: {reason}, or set share_prompt to false")
