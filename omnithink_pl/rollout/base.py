"""The seam between training and whatever samples completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch
from torch import Tensor

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.types import Completion


# Told the place of a prompt among the prompts, and all of its completions.
Finished: TypeAlias = "Callable[[int, tuple[Completion, ...]], None]"


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled.

    Args:
        group_size: Completions per prompt, G.
        temperature: Logits are divided by it; 0 is greedy. Log-probabilities are those at this temperature.
        top_p: Smallest set of tokens with at least this probability is sampled from; below 1, the policy that is
            trained is the one renormalised over its nucleus.
        max_tokens: Longest completion; one without EOS is truncated here.

    Raises:
        BadInput: If a value is out of range.
    """

    group_size: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 64
    # Tokens that one call adds to a completion at most; an unfinished completion can be continued by another call.
    # None: a call finishes every completion. Not a setting of users: see `in_segments`.
    segment: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise BadInput(f"model.sampling.group_size is {self.group_size}; use 1 or more completions per prompt")
        if self.temperature < 0.0:
            raise BadInput(f"model.sampling.temperature is {self.temperature}; use 0 (greedy) or more")
        if not 0.0 < self.top_p <= 1.0:
            raise BadInput(f"model.sampling.top_p is {self.top_p}; it is a probability: above 0, and at most 1")
        if self.max_tokens < 1:
            raise BadInput(f"model.sampling.max_tokens is {self.max_tokens}; use 1 or more")

    def in_segments(self, tokens: int | None) -> Sampling:
        """Return the same sampling, of which one call adds at most ``tokens`` tokens to a completion."""
        segmented = replace(self)
        object.__setattr__(segmented, "segment", tokens)
        return segmented

    def room(self, drawn: int = 0) -> int:
        """Tokens that one call may add to a completion that has so many."""
        left = self.max_tokens - drawn
        return left if self.segment is None else min(left, self.segment)

    def is_open(self, completion: Completion) -> bool:
        """Whether a completion has not ended and can be continued."""
        return completion.finish_reason == "length" and len(completion.token_ids) < self.max_tokens


class RolloutEngine(Protocol):
    """Samples completions from the current policy.

    Log-probabilities are those of the distribution sampled from: the softmax at the sampling temperature,
    renormalised over the nucleus where ``top_p`` is below 1; a greedy completion carries those at temperature 1.
    """

    def attach(self, policy: Policy) -> None:
        """Take the policy to sample from. Called once, before the first ``generate``."""
        ...

    def sync(self) -> None:
        """Take over the policy's present weights. Called before each batch of rollouts."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        begun: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Draw ``sampling.group_size`` completions for each prompt.

        A prompt's completions are a function of (weights, prompt, sampling, its seed, what was begun): but for
        rounding they depend neither on the prompts beside it, nor on its place, nor on the process. The global random
        state is left as it was.

        Args:
            prompts: Token ids of each prompt.
            sampling: How to draw.
            seeds: One for each prompt, at least 0 and below 2**63.
            finished: Called once for each prompt, in the calling thread, as soon as all of its completions are
                there, while others are still being drawn. It must return at once and not use the engine.
            begun: For each prompt what an earlier call with the same seed returned for it, or nothing. Completions
                that are open go on behind their last token, which keeps its log-probability and those before it
                theirs; the others are returned as they are.

        Returns:
            One tuple of ``sampling.group_size`` completions per prompt, in order.
        """
        ...


def check_prompts(prompts: Sequence[Sequence[int]], sampling: Sampling, context: int) -> None:
    """Refuse prompts that leave no room for a completion.

    Args:
        prompts: Token ids of each prompt.
        sampling: Asks for ``max_tokens`` behind each.
        context: Tokens that prompt and completion may have together.

    Raises:
        ValueError: Names the prompt and the setting.
    """
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {row} has no tokens; check the chat template")
        if len(prompt) + sampling.max_tokens > context:
            raise ValueError(
                f"prompt {row} has {len(prompt)} tokens, with max_tokens={sampling.max_tokens} more than the "
                f"context of {context}; lower max_tokens or leave out long prompts"
            )


def draw(logits: Tensor, noise: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the cumulative distribution at the row's own noise.

    A row's token depends on its own logits and noise alone, so the result does not change
    with the rows that happen to be in the batch beside it.

    Args:
        logits: Of shape [rows, vocabulary], before the temperature.
        noise: Of shape [rows], float64, uniform in [0, 1). Not read when greedy.
        temperature: Logits are divided by it; 0 takes the most likely token.
        top_p: Smallest set of most likely tokens with at least this probability is drawn from.

    Returns:
        Token ids and their natural log-probabilities, both of shape [rows]. Log-probabilities are
        those of the distribution drawn from, renormalised over the nucleus; those of temperature 1 when greedy.
    """
    logits = logits.float()
    if temperature == 0.0:
        tokens = logits.argmax(-1, keepdim=True)
    else:
        logits = logits / temperature if temperature != 1.0 else logits
        if top_p < 1.0:
            logits = logits.masked_fill(~nucleus(logits.softmax(-1), top_p), -torch.inf)
        tokens = _invert(logits.softmax(-1), noise)
    logprobs = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    return tokens.squeeze(-1), logprobs.squeeze(-1)


def _invert(probabilities: Tensor, noise: Tensor) -> Tensor:
    """Tokens of shape [rows, 1] at which the cumulative distribution exceeds the noise."""
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    threshold = noise.unsqueeze(-1) * cumulative[:, -1:]
    # "right" finds the first entry *above* the threshold, so a token of probability 0 is never drawn.
    return torch.searchsorted(cumulative, threshold, right=True).clamp_(max=probabilities.shape[-1] - 1)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The smallest set of most likely tokens with probability at least ``top_p``.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.

    Args:
        probabilities: Of shape [rows, vocabulary].
        top_p: In (0, 1].

    Returns:
        True for the tokens inside, of the same shape; never empty.
    """
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, before < top_p)
