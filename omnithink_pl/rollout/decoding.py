"""Batched decoding with transformers: each prefix is prefilled once, all rows share one key-value cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.masking_utils import causal_mask_function, eager_mask

from omnithink_pl.model.architecture import accepted, forward_parameters
from omnithink_pl.model.logprobs import nucleus
from omnithink_pl.model.policy import Policy
from omnithink_pl.rollout.base import Sampling, make_completion, stop_ids
from omnithink_pl.types import Completion

# Finished rows are dropped once they are this share of the batch: dropping copies the cache of the others.
DROP_SHARE = 0.125
ATTENTION = "grouped_matmul"


def decode(
    policy: Policy, prefixes: Sequence[Sequence[int]], noise: Sequence[Tensor], sampling: Sampling
) -> Iterator[tuple[int, list[Completion]]]:
    """Sample completions of prefixes that fit into one batch.

    ``noise`` is for each prefix uniform in [0, 1), of shape [copies, max_new_tokens]: one number per sampled token.

    Yields:
        Each prefix's index and its completions without the prefix, as soon as the last of them has ended.
    """
    unfinished = [len(own) for own in noise]
    running = _RunningRows(policy.model, prefixes, unfinished)
    device = running.logits.device
    firsts = list(accumulate(unfinished, initial=0))
    owners = [index for index, copies in enumerate(unfinished) for _ in range(copies)]
    limits = torch.tensor([noise[index].shape[1] for index in owners], device=device)
    uniform = pad_sequence([row for own in noise for row in own], batch_first=True).to(device)
    tokens = torch.zeros(uniform.shape, dtype=torch.long, device=device)
    logprobs = torch.zeros(uniform.shape, dtype=torch.float32, device=device)
    ends = [0] * len(owners)  # tokens of each finished row
    stops = stop_ids(policy)
    stop = torch.tensor(sorted(stops), device=device)
    for step in range(uniform.shape[1]):
        rows = running.rows
        token, logprob = sample_tokens(running.logits, uniform[rows, step], sampling.temperature, sampling.top_p)
        tokens[rows, step], logprobs[rows, step] = token, logprob
        for row in running.finish(torch.isin(token, stop) | (limits[rows] == step + 1)):
            ends[row] = step + 1  # the row can stay in the batch for a while
            index = owners[row]
            unfinished[index] -= 1
            if unfinished[index] == 0:
                own = slice(firsts[index], firsts[index + 1])
                columns = zip(tokens[own].tolist(), logprobs[own].tolist(), ends[own], strict=True)
                yield index, [make_completion(policy, ids[:end], values[:end], stops) for ids, values, end in columns]
        if running.count == 0:
            break
        running.advance(token)


def sample_tokens(logits: Tensor, noise: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Sample one token per row by inverting the cumulative distribution at the row's own noise.

    A row's token depends on its own logits and noise only, not on the other rows of the batch.

    Args:
        logits: Of shape [rows, vocabulary], before the temperature.
        noise: Of shape [rows], float64, uniform in [0, 1). Not read when greedy.
        temperature: Divides the logits; 0 takes the most likely token.
        top_p: Smallest set of most likely tokens with at least this probability is sampled from.

    Returns:
        Token ids and their log-probabilities (nats), both of shape [rows]. Log-probabilities are those of the
        distribution sampled from, renormalised over the nucleus; those of temperature 1 when greedy.
    """
    logits = logits.float()
    if temperature == 0.0:
        tokens = logits.argmax(-1, keepdim=True)
    else:
        logits = logits / temperature if temperature != 1.0 else logits
        if top_p < 1.0:
            logits = logits.masked_fill(~nucleus(logits.softmax(-1), top_p), -torch.inf)
        cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
        threshold = noise.unsqueeze(-1) * cumulative[:, -1:]
        # "right" finds the first entry *above* the threshold, so a token of probability 0 is never sampled.
        tokens = torch.searchsorted(cumulative, threshold, right=True).clamp_(max=logits.shape[-1] - 1)
    logprobs = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    return tokens.squeeze(-1), logprobs.squeeze(-1)


class _RunningRows:
    """Rows that are being decoded, ``copies`` of each prefix, with their key-value cache and next logits."""

    def __init__(self, model: PreTrainedModel, prefixes: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config)
        # State spaces (Mamba) have another name for it, would ignore it as past_key_values, and take no mask once the
        # padding is behind them.
        self.recurrent = "cache_params" in forward_parameters(model)
        self.arguments = {"cache_params" if self.recurrent else "past_key_values": self.cache, "use_cache": True}
        rows = [torch.tensor(prefix, device=model.device) for prefix in prefixes]
        tokens = pad_sequence(rows, batch_first=True, padding_side="left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        lengths = mask.sum(-1, keepdim=True)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._forward(tokens, mask if bool((mask == 0).any()) else None, positions, logits_to_keep=1)
        origins = torch.arange(len(prefixes)).repeat_interleave(torch.tensor(copies)).to(model.device)
        self.cache.reorder_cache(origins)
        self.logits, self.positions, self.mask = logits[origins], lengths[origins], mask[origins]
        self.rows = torch.arange(len(self.logits), device=model.device)  # original indices of the rows in the batch
        self.open = torch.ones_like(self.rows, dtype=torch.bool)
        self.count = len(self.rows)

    def _forward(self, tokens: Tensor, mask: Tensor | None, positions: Tensor, **more: Any) -> Tensor:
        """Return the logits behind the last token of each row."""
        arguments = accepted(self.model, attention_mask=mask, position_ids=positions, **self.arguments, **more)
        logits: Tensor = self.model(input_ids=tokens, **arguments).logits
        return logits[:, -1]

    def finish(self, ended: Tensor) -> list[int]:
        """Mark rows of the batch as ended, and return the original indices of those that were not before."""
        newly = self.rows[ended & self.open].tolist()
        self.open &= ~ended
        self.count -= len(newly)
        return newly

    def advance(self, token: Tensor) -> None:
        """Append a token to every row of the batch and compute the next logits."""
        if self.count <= (1 - DROP_SHARE) * len(self.rows):
            keep = self.open.nonzero().squeeze(-1)
            self.cache.reorder_cache(keep)  # select: unlike batch_select_indices, linear attention has it too
            self.rows, self.open, self.mask = self.rows[keep], self.open[keep], self.mask[keep]
            self.positions, token = self.positions[keep], token[keep]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], -1)
        with decoding_attention(self.model):
            mask = None if self.recurrent else self.mask
            self.logits = self._forward(token.unsqueeze(-1), mask, self.positions)
        self.positions = self.positions + 1


@contextmanager
def decoding_attention(model: PreTrainedModel) -> Iterator[None]:
    """Replace ``sdpa``, packed or not, by ``grouped_attention`` on a CPU; leave other models and devices unchanged.

    Inside, only forward passes of a single new token are allowed.
    """
    original = model.config._attn_implementation
    if not original.endswith("sdpa") or model.device.type != "cpu":
        yield
        return
    AttentionInterface.register(ATTENTION, grouped_attention)
    AttentionMaskInterface.register(ATTENTION, decoding_mask)
    model.config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        model.config._attn_implementation = original


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Compute softmax attention of one query position, as transformers' attention interface asks.

    Query heads that share a key-value head become rows of one matrix product. With a mask, transformers' own
    implementations copy the cache once per query head first, which costs more than the attention itself.

    ``query`` is of shape [rows, heads, 1, size], ``key`` and ``value`` are of shape [rows, key-value heads, length,
    size], and ``attention_mask``, which is added to the scores, is of shape [rows, 1, 1, length].

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
    """Build the mask that ``grouped_attention`` adds to its scores, as transformers' mask interface asks.

    For one query position behind all others only padding is hidden, so the padding mask is enough. transformers' own
    function, which handles every other case, builds the causal mask anew for each token.

    Returns:
        0 where there is a token and the smallest number elsewhere, of shape [rows, 1, 1, kv_length].
    """
    shown = attention_mask
    if shown is None or q_length != 1 or mask_function is not causal_mask_function or shown.shape[-1] != kv_length:
        arguments = {"q_length": q_length, "kv_length": kv_length, "mask_function": mask_function, **kwargs}
        return eager_mask(attention_mask=attention_mask, dtype=dtype, **arguments)
    hidden = ~shown.bool()[:, None, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)
