"""Batched decoding with transformers: prompts prefilled once, several completions each, one key-value cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, final

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import causal_mask_function, eager_mask

from omnithink_pl.rollout.base import draw
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import Finished, Sampling


@dataclass(frozen=True, slots=True)
class Stem:
    """Tokens that are computed once, and the completions that go on from there.

    Args:
        place: Of the prompt among the prompts.
        first: The first of these completions among the prompt's.
        copies: How many there are; 1 behind a completion that has begun.
        tokens: The prompt, and behind it the completion so far.
        drawn: Tokens of that completion.
        room: Tokens that each copy may add.
    """

    place: int
    first: int
    copies: int
    tokens: tuple[int, ...]
    drawn: int
    room: int


@final
class Harvest:
    """A call's prompts, divided into stems; their completions arrive stem by stem, in any order.

    Args:
        policy: Its tokenizer makes text of tokens.
        prompts: Token ids of each prompt.
        sampling: How completions are drawn.
        begun: For each prompt its completions so far, or none; all are new if not given.
        finished: Told of each prompt once all of its completions are there.
        most: Copies that a stem may have.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        begun: Sequence[Sequence[Completion]] | None,
        finished: Finished | None,
        most: int | None = None,
    ) -> None:
        self._policy = policy
        self._sampling = sampling
        self._finished = finished
        self._most = most or sampling.group_size
        begun = begun or [()] * len(prompts)
        self._groups = [[*own] or [Completion((), (), "", "length")] * sampling.group_size for own in begun]
        self.stems = [stem for place, prompt in enumerate(prompts) for stem in self._divide(place, tuple(prompt))]
        self._left = [0] * len(prompts)
        for stem in self.stems:
            self._left[stem.place] += 1
        for place, left in enumerate(self._left):
            self._hand_over(place, left)

    def _divide(self, place: int, prompt: tuple[int, ...]) -> list[Stem]:
        group, room = self._groups[place], self._sampling.room
        if not any(completion.token_ids for completion in group):
            firsts = range(0, len(group), self._most)
            return [Stem(place, f, min(self._most, len(group) - f), prompt, 0, room()) for f in firsts]
        return [
            Stem(place, i, 1, prompt + completion.token_ids, len(completion.token_ids), room(len(completion.token_ids)))
            for i, completion in enumerate(group)
            if self._sampling.is_open(completion)
        ]

    def put(self, stem: Stem, drawn: Sequence[Completion]) -> None:
        """Add what was drawn behind a stem: one completion for each of its copies, without what had begun."""
        group = self._groups[stem.place]
        for i, tail in enumerate(drawn, stem.first):
            group[i] = self._joined(group[i], tail)
        self._left[stem.place] -= 1
        self._hand_over(stem.place, self._left[stem.place])

    def groups(self) -> list[tuple[Completion, ...]]:
        """All completions, in the order of the prompts."""
        return [tuple(group) for group in self._groups]

    def _hand_over(self, place: int, left: int) -> None:
        if left == 0 and self._finished is not None:
            self._finished(place, tuple(self._groups[place]))

    def _joined(self, head: Completion, tail: Completion) -> Completion:
        if not head.token_ids:
            return tail
        ids = head.token_ids + tail.token_ids
        text = self._policy.decode(ids)
        return Completion(ids, head.logprobs + tail.logprobs, text, tail.finish_reason, head.earlier)


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
