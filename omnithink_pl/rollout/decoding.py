"""Decoding a batch of stems, several completions each, on one key-value cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence
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
    policy: Policy, stems: Sequence[Sequence[int]], noise: Sequence[Tensor], sampling: Sampling
) -> Iterator[tuple[int, list[Completion]]]:
    """Sample what goes on behind stems that fit into one batch.

    Args:
        policy: Model and tokenizer.
        stems: Token ids of each.
        noise: For each stem uniform in [0, 1), of shape [copies, room]: what each token is drawn with.
        sampling: Temperature and top-p.

    Yields:
        Each stem's place and its completions without the stem, as soon as the last of them has ended.
    """
    left = [len(own) for own in noise]
    running = _Running(policy.model, stems, left)
    device = running.logits.device
    firsts = list(accumulate(left, initial=0))
    owners = [place for place, copies in enumerate(left) for _ in range(copies)]
    rooms = torch.tensor([noise[place].shape[1] for place in owners], device=device)
    uniform = pad_sequence([row for own in noise for row in own], batch_first=True).to(device)
    tokens = torch.zeros(uniform.shape, dtype=torch.long, device=device)
    logprobs = torch.zeros(uniform.shape, dtype=torch.float32, device=device)
    stops = stop_ids(policy)
    stop = torch.tensor(stops, device=device)
    for step in range(uniform.shape[1]):
        rows = running.rows
        token, logprob = draw(running.logits, uniform[rows, step], sampling.temperature, sampling.top_p)
        tokens[rows, step], logprobs[rows, step] = token, logprob
        for row in running.finish(torch.isin(token, stop) | (rooms[rows] == step + 1)):
            place = owners[row]
            left[place] -= 1
            if left[place] == 0:
                own = slice(firsts[place], firsts[place + 1]), slice(noise[place].shape[1])
                yield place, _completions(policy, tokens[own].tolist(), logprobs[own].tolist(), set(stops))
        if running.count == 0:
            break
        running.advance(token)


def stop_ids(policy: Policy) -> list[int]:
    """Tokens that end a completion: the tokenizer's EOS and those of the model's generation config."""
    configured = policy.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return sorted({policy.eos_id, *(token for token in listed if token is not None)})


class _Running:
    """The rows that are still being decoded, with their cache and next logits.

    Args:
        model: A causal language model.
        stems: Token ids of each.
        copies: Rows of each.
    """

    def __init__(self, model: PreTrainedModel, stems: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config)
        tokens, mask = pad_left(stems, model.device)
        lengths = mask.sum(-1, keepdim=True)
        logits = model(
            input_ids=tokens,
            attention_mask=mask if bool((mask == 0).any()) else None,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        origins = torch.arange(len(stems)).repeat_interleave(torch.tensor(copies)).to(model.device)
        self.cache.batch_select_indices(origins)
        self.logits, self.positions, self.mask = logits[origins], lengths[origins], mask[origins]
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
