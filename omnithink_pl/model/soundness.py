"""Tell whether a model computes numbers: weights that are NaN, or so large that a forward pass overflows, do not."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.architecture import accepted
from omnithink_pl.model.sharding import local, whole

TOKENS = 16
# What a model's code raises when it is called in a way that it does not support, and the machine does not.
MISCALLED = (TypeError, ValueError, AttributeError, LookupError, AssertionError)


@torch.no_grad()
def unsound(model: PreTrainedModel) -> str:
    """Return what is wrong with a model; empty if its weights, and its logits of a few tokens, are finite.

    A model that cannot be called without more than tokens (X-MOD: their language) has no logits.

    A policy of NaN samples the first token of its vocabulary for ever: evaluated, it scores 0 % without any error. All
    processes of a sharded model call this together, and may get different answers about their parts of the weights.
    """
    for name, parameter in model.named_parameters():
        if not local(parameter).isfinite().all():
            return f"its weights {name} are not finite"
    tokens = torch.arange(min(TOKENS, model.config.get_text_config().vocab_size), device=model.device)[None]
    try:
        with whole(model):
            logits = model(input_ids=tokens, **accepted(model, use_cache=False)).logits
    except BadInput:  # ours, with its cure
        raise
    except MISCALLED as error:
        why = str(error).strip().partition("\n")[0]
        return f"a plain forward pass fails ({type(error).__name__}: {why})"
    return "" if logits.isfinite().all() else "its weights are so large that its logits are not finite"
