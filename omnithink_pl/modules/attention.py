"""Letting any transformers model with softmax attention compute packed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import AttentionInterface, AttentionMaskInterface

from omnithink_pl.errors import BadInput
from omnithink_pl.modules.tiles import Tiles

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

PREFIX = "packed_"


def tiled_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    tiles: Tiles,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention of a packed row, in the signature of transformers' attention interface.

    Args:
        module: The attention layer, for its name.
        query: Of shape [1, heads, tokens, size].
        key: Of shape [1, key-value heads, tokens, size].
        value: Likewise.
        attention_mask: Not read: the tiles know who sees whom.
        scaling: Of the scores; 1 / sqrt(size) by default.
        tiles: The row's spans.
        **kwargs: What other implementations take.

    Returns:
        The attended values of shape [1, tokens, heads, size], and no weights.

    Raises:
        BadInput: If the layer is more than softmax attention over all that precedes.
    """
    for name in ("softcap", "s_aux", "position_bias", "dropout"):
        if kwargs.get(name):
            raise BadInput(
                f"{type(module).__name__} cannot share prompts: it has {name}; set model.share_prompt to false"
            )
    rows = [part.squeeze(0).transpose(0, 1) for part in (query, key, value)]
    return tiles.attend(rows[0], rows[1], rows[2], scaling).unsqueeze(0), None


def understand_packed_rows(model: PreTrainedModel) -> None:
    """Give a model attention that takes ``tiles`` in a forward; without them it attends as before.

    It stays, because gradient checkpointing runs layers again in the backward pass. Calling it again changes nothing.

    Raises:
        BadInput: If the model's attention is not one that transformers dispatches by name.
    """
    own = model.config._attn_implementation
    if own.startswith(PREFIX):
        return
    functions, masks = AttentionInterface(), AttentionMaskInterface()
    if own not in functions or own not in masks:
        raise BadInput(
            f"{type(model).__name__} cannot share prompts: its attention is {own!r}; load it with sdpa, or set "
            f"model.share_prompt to false"
        )

    def attention(module: nn.Module, *args: Any, tiles: Tiles | None = None, **kwargs: Any) -> Any:
        if tiles is not None:
            return tiled_attention(module, *args, tiles=tiles, **kwargs)
        return functions[own](module, *args, **kwargs)

    AttentionInterface.register(PREFIX + own, attention)
    AttentionMaskInterface.register(PREFIX + own, masks[own])
    model.config._attn_implementation = PREFIX + own
