"""Log-probabilities of completions under a model, with gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnithink_pl.errors import BadInput
from omnithink_pl.modules.attention import understand_packed_rows
from omnithink_pl.modules.layout import Layout, Padding, packed, separate
from omnithink_pl.modules.projection import Drawn, project, statistics
from omnithink_pl.modules.tiles import Tiles

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
        top_p: As when sampling: the distribution is renormalised over the model's own nucleus, to which the token
            that was drawn always belongs.

    Returns:
        Rows in group order: all completions of the first prompt, then those of the second, and so on.

    Raises:
        BadInput: If the model cannot share prompts.
        ValueError: If a prompt or completion is empty.
    """
    layout = packed(prompts, completions) if share_prompt else separate(prompts, completions, padding)
    if share_prompt:
        _check_shareable(model, layout.longest)
        understand_packed_rows(model)
    drawn = Drawn(layout.targets.to(model.device), temperature, top_p)
    found = None if _rewrites_logits(model) else _projected(model, layout, drawn)
    if found is None:
        logits = _selected(model, layout)
        found = torch.stack(statistics(drawn.scaled(logits, slice(None)), drawn.targets), -1)
    return _spread(found, layout)


def _projected(model: PreTrainedModel, layout: Layout, drawn: Drawn) -> Tensor | None:
    """``[n, 2]`` log-probability and entropy of each completion token; nothing if the model changes its logits.

    They leave the model in place of its logits, lest wrappers that watch a model's outputs (sharding above all)
    miss them.
    """
    head = model.get_output_embeddings()
    own, source = head.forward, layout.source.to(model.device)

    def forward(hidden: Tensor) -> Tensor:
        found = project(head, own, hidden.flatten(0, 1).index_select(0, source), drawn).unsqueeze(0)
        return torch.cat([found, torch.full_like(found[..., :1], CANARY)], -1)  # no view: sharding warns of them

    with _replaced_forward(head, forward):
        found = _run(model, layout)
    unchanged = torch.full_like(found[:, 2].detach(), CANARY, dtype=torch.promote_types(found.dtype, torch.float32))
    return found[:, :2] if torch.equal(found[:, 2].detach(), unchanged) else None


def _selected(model: PreTrainedModel, layout: Layout) -> Tensor:
    """The model's own logits ``[n, vocabulary]``, computed where a completion token is predicted only."""
    head, source = model.get_output_embeddings(), layout.source.to(model.device)
    own = head.forward
    with _replaced_forward(head, lambda hidden: own(hidden.flatten(0, 1).index_select(0, source).unsqueeze(0))):
        return _run(model, layout)


def _run(model: PreTrainedModel, layout: Layout) -> Tensor:
    tiles = Tiles.of(layout.spans, model.device) if layout.spans else None
    # Four dimensions: a mask that is ready, which transformers hands on as it is, and the tiles stand for.
    mask = layout.mask if tiles is None else layout.mask.bool().view(1, 1, 1, -1)
    logits = model(
        input_ids=layout.tokens.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=layout.positions.to(model.device),
        use_cache=False,
        **({} if tiles is None else {"tiles": tiles}),
    ).logits[0]
    if tiles is not None and tiles.calls < (layers := model.config.get_text_config().num_hidden_layers):
        raise BadInput(
            f"{type(model).__name__} cannot share prompts: only {tiles.calls} of its {layers} layers let their "
            f"attention be replaced; set model.share_prompt to false"
        )
    return logits


def _rewrites_logits(model: PreTrainedModel) -> bool:
    """Whether the model's config says that logits are more than the output embedding's product."""
    config = model.config.get_text_config()
    return any(getattr(config, name, None) not in (None, 1, 1.0) for name in REWRITES)


def _spread(found: Tensor, layout: Layout) -> TokenLogprobs:
    """What was found for each token ``[n, 2]`` over ``[N, T]``."""
    lengths = torch.tensor(layout.lengths, device=found.device)
    mask = torch.arange(max(layout.lengths), device=found.device) < lengths.unsqueeze(-1)
    zeros = torch.zeros(mask.shape, dtype=found.dtype, device=found.device)
    logprobs, entropy = (zeros.masked_scatter(mask, column) for column in found.unbind(-1))
    return TokenLogprobs(logprobs, entropy.detach(), mask)


@contextmanager
def _replaced_forward(module: torch.nn.Module, forward: object) -> Iterator[None]:
    """Another forward for the while; the module's hooks stay in place."""
    before = module.__dict__.get("forward")
    module.forward = forward  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _check_shareable(model: PreTrainedModel, longest: int) -> None:
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    reason = ""
    if not kinds <= {"full_attention", "sliding_attention"}:
        reason = f"it has layers of kind {sorted(kinds)}"
    elif window is not None and longest > window:
        reason = f"sequences of {longest} tokens exceed its sliding window of {window}"
    if reason:
        raise BadInput(f"{type(model).__name__} cannot share prompts: {reason}; set model.share_prompt to false")
