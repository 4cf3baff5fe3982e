"""Attention for decoding on a CPU: one query a row against a cache whose heads are shared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function, eager_mask

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

NAME = "grouped_matmul"


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Softmax attention of one query position, in the signature of transformers' attention interface.

    Query heads that share a key-value head are taken as rows of one matrix product. With a mask,
    transformers' own paths first copy the cache once per query head, which costs more than the
    attention itself.

    Args:
        module: The attention layer; not read.
        query: Of shape [rows, heads, 1, size].
        key: Of shape [rows, key-value heads, length, size].
        value: Of the same shape as ``key``.
        attention_mask: Added to the scores, of shape [rows, 1, 1, length]; ``None`` shows everything.
        scaling: Of the scores; 1 / sqrt(size) by default.
        **kwargs: What other implementations take.

    Returns:
        The attended values of shape [rows, 1, heads, size], and no weights.
    """
    rows, heads, length, size = query.shape
    grouped = query.view(rows, key.shape[1], heads // key.shape[1] * length, size)
    scores = grouped @ key.transpose(-1, -2) * (size**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask
    return (scores.softmax(-1) @ value).view(rows, length, heads, size), None


def decoding_mask(
    q_length: int,
    kv_length: int,
    mask_function: object,
    attention_mask: Tensor | None,
    dtype: torch.dtype,
    **kwargs: Any,
) -> Tensor:
    """What ``grouped_attention`` adds to its scores, in the signature of transformers' mask interface.

    One query position that sees all that precedes has nothing hidden but padding: the padding mask is all there is to
    know. transformers' own, which is asked in every other case, finds that out anew for each token.

    Args:
        q_length: Query positions.
        kv_length: Positions in the cache, the query's included.
        mask_function: Who sees whom, padding aside.
        attention_mask: Of shape [rows, length], true for a token.
        dtype: Of the scores.
        **kwargs: What other implementations take.

    Returns:
        0 where there is a token and the smallest number elsewhere, of shape [rows, 1, 1, kv_length].
    """
    shown = attention_mask
    if shown is None or q_length != 1 or mask_function is not causal_mask_function or shown.shape[-1] != kv_length:
        asked = {"q_length": q_length, "kv_length": kv_length, "mask_function": mask_function, **kwargs}
        return eager_mask(attention_mask=attention_mask, dtype=dtype, **asked)
    hidden = ~shown.bool()[:, None, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


@contextmanager
def decoding_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model on the CPU that uses ``sdpa``, packed or not, decode with ``grouped_attention`` for the while.

    Other models and devices are left as they are. Inside, only forwards of a single new token are allowed.
    """
    own = model.config._attn_implementation
    if not own.endswith("sdpa") or model.device.type != "cpu":
        yield
        return
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, decoding_mask)
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = own
