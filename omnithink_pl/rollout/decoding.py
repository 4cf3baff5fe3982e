"""Decoding a batch of prompts, several completions each, on one key-value cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from omnithink_pl.rollout.attention import decoding_attention
from omnithink_pl.rollout.sampling import draw
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import Sampling

# Finished rows leave the batch once they are this share of it; leaving copies the cache of those that stay.
DROP_SHARE = 0.125


def decode(
    policy: Policy, prompts: Sequence[Sequence[int]], noise: Tensor, sampling: Sampling
) -> Iterator[tuple[int, list[Completion]]]:
    """Sample completions of prompts that fit into one batch.

    Args:
        policy: Model and tokenizer.
        prompts: Token ids of each prompt.
        noise: Uniform in [0, 1), of shape [prompts, completions, max_tokens]: what each token is drawn with.
        sampling: Temperature, top-p and length.

    Yields:
        Each prompt's place and its completions, as soon as the last of them has ended.
    """
    copies = noise.shape[1]
    running = _Running(policy.model, prompts, copies)
    noise = noise.flatten(0, 1).to(running.logits.device)
    tokens = torch.zeros(noise.shape, dtype=torch.long, device=noise.device)
    logprobs = torch.zeros(noise.shape, dtype=torch.float32, device=noise.device)
    stops = stop_ids(policy)
    stop = torch.tensor(stops, device=noise.device)
    left = [copies] * len(prompts)

    def completions(place: int) -> list[Completion]:
        own = slice(place * copies, (place + 1) * copies)
        return _completions(policy, tokens[own].tolist(), logprobs[own].tolist(), set(stops))

    for step in range(noise.shape[1]):
        rows = running.rows
        token, logprob = draw(running.logits, noise[rows, step], sampling.temperature, sampling.top_p)
        tokens[rows, step], logprobs[rows, step] = token, logprob
        for row in running.finish(torch.isin(token, stop)):
            left[row // copies] -= 1
            if left[row // copies] == 0:
                yield row // copies, completions(row // copies)
        if running.count == 0 or step + 1 == noise.shape[1]:
            break
        running.advance(token)
    for place, cut in enumerate(left):
        if cut:
            yield place, completions(place)


def stop_ids(policy: Policy) -> list[int]:
    """Tokens that end a completion: the tokenizer's EOS and those of the model's generation config."""
    configured = policy.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return sorted({policy.eos_id, *(token for token in listed if token is not None)})


class _Running:
    """The rows that are still being decoded, with their cache and next logits.

    Args:
        model: A causal language model.
        prompts: Token ids of each prompt.
        copies: Rows per prompt.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], copies: int) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config)
        tokens, mask = pad_left(prompts, model.device)
        lengths = mask.sum(-1, keepdim=True)
        logits = model(
            input_ids=tokens,
            attention_mask=mask if bool((mask == 0).any()) else None,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self.cache.batch_repeat_interleave(copies)
        self.logits = logits.repeat_interleave(copies, 0)
        self.positions = lengths.repeat_interleave(copies, 0)
        self.mask = mask.repeat_interleave(copies, 0)
        self.rows = torch.arange(len(self.logits), device=model.device)
        self.open = torch.ones_like(self.rows, dtype=torch.bool)
        self.count = len(self.rows)

    def finish(self, ended: Tensor) -> list[int]:
        """Note which of the present rows have ended; those that just did are returned, and ``count`` go on."""
        just = self.rows[ended & self.open].tolist()
        self.open &= ~ended
        self.count -= len(just)
        return just

    def advance(self, token: Tensor) -> None:
        """Append a token to every present row and compute the next logits."""
        if self.count <= (1 - DROP_SHARE) * len(self.rows):
            token = self._drop_finished(token)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], -1)
        with decoding_attention(self.model):
            self.logits = self.model(
                input_ids=token.unsqueeze(-1),
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=self.cache,
                use_cache=True,
            ).logits[:, -1]
        self.positions = self.positions + 1

    def _drop_finished(self, token: Tensor) -> Tensor:
        keep = self.open.nonzero().squeeze(-1)
        self.cache.batch_select_indices(keep)
        self.rows, self.open, self.mask = self.rows[keep], self.open[keep], self.mask[keep]
        self.positions = self.positions[keep]
        return token[keep]


def pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts as one tensor, padded on the left with token 0, which the mask hides.

    Returns:
        Token ids and the mask (1 for a token, 0 for padding), both int64 of shape [prompts, longest].
    """
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return tokens.to(device), mask.to(device)


def _completions(
    policy: Policy, tokens: list[list[int]], logprobs: list[list[float]], stops: set[int]
) -> list[Completion]:
    """Each row up to its first stop token; what was decoded behind it is thrown away."""
    done = []
    for row, row_logprobs in zip(tokens, logprobs, strict=True):
        end = next((place + 1 for place, token in enumerate(row) if token in stops), None)
        ids = tuple(row[:end])
        text = policy.decode(ids)
        done.append(Completion(ids, tuple(row_logprobs[:end]), text, "length" if end is None else "stop"))
    return done
