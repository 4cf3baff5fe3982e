"""Floating-point operations of a training pass, counted from shapes: two for a multiplication and an addition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PretrainedConfig, PreTrainedModel


def linear_layers(model: PreTrainedModel, tokens: int, predicted: int) -> list[tuple[torch.nn.Linear, int]]:
    """Return each linear layer, and how many tokens go through it: through the head, those that predict."""
    head = model.get_output_embeddings()
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return [(layer, predicted if layer is head else tokens) for layer in layers]


def linear_flops(model: PreTrainedModel, prompts: Sequence[int], completions: Sequence[int]) -> int:
    """Return the floating-point operations of these products: two per weight, token and product, of which are three."""
    tokens, predicted = sum(prompts) + sum(completions), sum(completions)
    return sum(6 * rows * layer.weight.numel() for layer, rows in linear_layers(model, tokens, predicted))


def attention_flops(model: PreTrainedModel, prompts: Sequence[int], completions: Sequence[int]) -> int:
    """Return those of attention, forward and backward, without scores that the causal mask hides."""
    return score_flops(model.config, pairs(prompts, completions))


def score_flops(config: PretrainedConfig, shown: int) -> int:
    """Return those of attention for pairs of a token and one that it attends to, forward and backward.

    Scores and their product with the values are two operations each for a pair of tokens and a number of a head; the
    backward pass has twice as many products (Dao et al. 2022, "FlashAttention", arXiv 2205.14135, whose recomputation
    is left out).
    """
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 12 * text.num_hidden_layers * text.num_attention_heads * size * shown


def pairs(prompts: Sequence[int], completions: Sequence[int]) -> int:
    """Count pairs of a token and one that it attends to; each prompt counts once, for completions in equal groups."""
    group = len(completions) // len(prompts)
    own = sum(length * (length + 1) // 2 for length in (*prompts, *completions))
    return own + sum(length * prompts[place // group] for place, length in enumerate(completions))
