"""Attention over packed rows in place of a model's own, by the kernel that suits the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.attention_tiles import TiledAttention
from omnithink_pl.model.attention_varlen import VarlenAttention
from omnithink_pl.model.packing import Span

PREFIX = "packed_"  # of the attention implementation's name, once packed rows are enabled
# Arguments of an attention function that change its scores: Gemma 2's cap, GPT-OSS's sinks, T5's biases, dropout.
OWN_TERMS = ("softcap", "s_aux", "position_bias", "dropout")


def enable_packed_attention(model: PreTrainedModel) -> None:
    """Give a model attention that takes ``packed`` in a forward; without it the model attends as before.

    It stays, because gradient checkpointing runs layers again in the backward pass.

    Raises:
        BadInput: If the model's attention is not one that transformers dispatches by name.
    """
    own = model.config._attn_implementation
    if own.startswith(PREFIX):
        return
    functions, masks = AttentionInterface(), AttentionMaskInterface()
    if own not in functions or own not in masks:
        raise cannot_share(type(model).__name__, f"its attention is {own!r}, not sdpa")

    def attention(module: nn.Module, *args: Any, packed: PackedAttention | None = None, **kwargs: Any) -> Any:
        if packed is not None:
            return _attention_layer(module, *args, packed=packed, **kwargs)
        return functions[own](module, *args, **kwargs)

    AttentionInterface.register(PREFIX + own, attention)
    AttentionMaskInterface.register(PREFIX + own, masks[own])
    model.config._attn_implementation = PREFIX + own


def _attention_layer(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    packed: PackedAttention,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attend in the signature of transformers' attention interface, whose tensors are [1, heads, tokens, size].

    The spans say which tokens attend to which. So the mask is not read, and has to be the one that the model was given:
    some models (Doge, DeepSeek V3.2) add terms of their own to it, which would be lost.
    """
    terms = [name for name in OWN_TERMS if isinstance(kwargs.get(name), Tensor) or kwargs.get(name)]
    reason = f"it has {terms[0]}" if terms else ""
    own_mask = attention_mask is None or (attention_mask.dtype, attention_mask.numel()) == (torch.bool, packed.tokens)
    if not own_mask:
        reason = "it adds terms of its own to the mask"
    elif kwargs.get("is_causal", getattr(module, "is_causal", True)) is False:
        reason = "its tokens attend to later ones"
    elif (window := kwargs.get("sliding_window")) and packed.longest > int(window):  # type: ignore[call-overload]
        reason = f"sequences of {packed.longest} tokens exceed its sliding window of {window}"
    if reason:
        raise cannot_share(type(module).__name__, reason)
    query, key, value = (part.squeeze(0).transpose(0, 1) for part in (query, key, value))
    return packed.attend(query, key, value, scaling).unsqueeze(0), None


def cannot_share(name: str, reason: str) -> BadInput:
    """Return the error of a model or layer whose prompts cannot be shared, with the cure."""
    return BadInput(f"{name} cannot share prompts: {reason}; set model.memory.share_prompt to false")


class PackedAttention:
    """The attention of one packed row, the same in all layers of a model.

    The kernel is chosen at the first layer, by what it is given: autocast decides on the dtype there.

    Args:
        spans: Which tokens of the row attend to which.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.tokens = sum(span.length for span in spans)
        self.longest = max(span.prefix_length + span.length for span in spans)  # prompt with a completion, in tokens
        self.calls = 0  # attention layers that have used it: 0 if the model has attention of its own
        self._kernel: TiledAttention | VarlenAttention | None = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # where layers are compiled, this lies between two compiled parts
    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Compute softmax attention from and to ``[tokens, heads, size]``; keys and values may have fewer heads."""
        self.calls += 1
        device = query.device.type
        if torch.is_autocast_enabled(device):  # rotary positions leave queries and keys in float32, values not
            dtype = torch.get_autocast_dtype(device)
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        kind = VarlenAttention if VarlenAttention.supports(query) else TiledAttention
        if not isinstance(self._kernel, kind):
            self._kernel = kind.of(self.spans, query.device)
        return self._kernel.attend(query, key, value, scale)
