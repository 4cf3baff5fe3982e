"""What training asks of a rollout engine, and the decoding requests that all engines have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, final

from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import Policy
from omnithink_pl.types import Completion

# Called with a prompt's index and all of its completions.
Finished: TypeAlias = Callable[[int, tuple[Completion, ...]], None]


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

    def max_new_tokens(self, generated: int = 0) -> int:
        """Return how many tokens one call may add to a completion that has ``generated`` ones."""
        remaining = self.max_tokens - generated
        return remaining if self.segment is None else min(remaining, self.segment)

    def is_open(self, completion: Completion) -> bool:
        """Return whether a completion has not ended and can be continued."""
        return completion.finish_reason == "length" and len(completion.token_ids) < self.max_tokens


class RolloutEngine(Protocol):
    """Samples completions from the current policy.

    Log-probabilities are those of the distribution sampled from: the softmax at the sampling temperature,
    renormalised over the nucleus where ``top_p`` is below 1; those of temperature 1 for a greedy completion.

    An engine that needs a package of its own has a method ``check_installed``, which verbs call before rows are read.
    An engine whose weights can be coarser than the policy's has an attribute ``low_precision`` that is true: the check
    at a run's start (``omnithink_pl/rollout/agreement.py``) then allows for more rounding. One that has an attribute
    ``shared`` that is true has weights that all processes share; all of them call ``sync``. One that needs nothing of
    the trainer while it samples has a method ``begin``: it takes what ``generate`` takes and returns at once a future
    of what that returns. ``sync`` then waits for it before it changes any weight.
    """

    def attach(self, policy: Policy) -> None:
        """Set the policy to sample from. Called once, before the first ``generate``."""

    def sync(self) -> None:
        """Load the policy's current weights. Called before each batch of rollouts.

        An engine with weights of its own skips this while ``policy.version`` is that of its last sync.
        """

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        partial: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Sample ``sampling.group_size`` completions for each prompt.

        A prompt's completions are a function of (weights, prompt, sampling, seed, partial completions). Up to
        rounding they depend neither on the other prompts, nor on their order, nor on the process. The global random
        state is unchanged.

        Args:
            prompts: Token ids of each prompt.
            sampling: Sampling parameters.
            seeds: One for each prompt, at least 0 and below 2**63.
            finished: Called once for each prompt, in the calling thread, as soon as all of its completions exist,
                while others are still being sampled. It must return at once and not use the engine.
            partial: For each prompt what an earlier call with the same seed returned for it, or nothing. Completions
                that are open are continued; their tokens keep their log-probabilities. The others are returned
                unchanged.

        Returns:
            One tuple of ``sampling.group_size`` completions per prompt, in order.

        Raises:
            RuntimeError: Before ``attach``.
            ValueError: If a prompt is empty or leaves no room for ``max_tokens`` in the context.
            EngineFailure: If an engine beside the trainer dies, does not answer, or was restarted.
        """


def check_prompts(prompts: Sequence[Sequence[int]], sampling: Sampling, context: int) -> None:
    """Raise ``ValueError`` for empty prompts and those that leave no room for ``max_tokens`` within the context."""
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {row} has no tokens; check the chat template")
        if len(prompt) + sampling.max_tokens > context:
            raise ValueError(
                f"prompt {row} has {len(prompt)} tokens, with max_tokens={sampling.max_tokens} more than the "
                f"context of {context}; lower max_tokens or leave out long prompts"
            )


def stop_ids(policy: Policy) -> set[int]:
    """Return the tokens that end a completion: the tokenizer's EOS and those of the model's generation config."""
    configured = policy.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return {policy.eos_id, *(token for token in listed if token is not None)}


def make_completion(
    policy: Policy, ids: Sequence[int], logprobs: Sequence[float], stops: Collection[int]
) -> Completion:
    """Return the completion of sampled tokens, which has ended if its last token is a stop token."""
    return Completion(tuple(ids), tuple(logprobs), policy.decode(ids), "stop" if ids[-1] in stops else "length")


@dataclass(frozen=True, slots=True)
class DecodingRequest:
    """A prefix that is prefilled once, and the completions that are sampled behind it."""

    prompt: int  # index in the call
    first: int  # index of the first of these completions in the prompt's group
    copies: int  # number of completions; 1 where a partial completion is continued
    tokens: tuple[int, ...]  # the prompt, followed by the partial completion if there is one
    generated: int  # tokens of that partial completion
    max_new_tokens: int  # that this call may add to each completion


@final
class RequestBatch:
    """Split the prompts of one ``generate`` call into decoding requests, and collect their completions in any order.

    A request has at most ``max_copies`` completions; a whole group if not given.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        partial: Sequence[Sequence[Completion]] | None,
        finished: Finished | None,
        max_copies: int | None = None,
    ) -> None:
        self._policy, self._sampling, self._finished = policy, sampling, finished
        partial = partial or [()] * len(prompts)
        self._groups = [[*group] or [Completion((), (), "", "length")] * sampling.group_size for group in partial]
        self.requests = [
            request
            for index, prompt in enumerate(prompts)
            for request in self._split(index, tuple(prompt), max_copies or sampling.group_size)
        ]
        self._waiting = Counter(request.prompt for request in self.requests)
        for index in range(len(prompts)):
            self._notify(index)

    def add(self, request: DecodingRequest, sampled: Sequence[Completion]) -> None:
        """Record the completions of a request, without the partial completion that they continue."""
        group = self._groups[request.prompt]
        for index, tail in enumerate(sampled, request.first):
            head = group[index]
            ids, logprobs = head.token_ids + tail.token_ids, head.logprobs + tail.logprobs
            text = self._policy.decode(ids) if head.token_ids else tail.text
            group[index] = Completion(ids, logprobs, text, tail.finish_reason, head.earlier)
        self._waiting[request.prompt] -= 1
        self._notify(request.prompt)

    def groups(self) -> list[tuple[Completion, ...]]:
        """Return all completions, in the order of the prompts."""
        return [tuple(group) for group in self._groups]

    def _split(self, index: int, prompt: tuple[int, ...], max_copies: int) -> Iterator[DecodingRequest]:
        group, max_new = self._groups[index], self._sampling.max_new_tokens
        if not any(completion.token_ids for completion in group):
            for first in range(0, len(group), max_copies):
                yield DecodingRequest(index, first, min(max_copies, len(group) - first), prompt, 0, max_new())
            return
        for i, completion in enumerate(group):
            if self._sampling.is_open(completion):
                generated = len(completion.token_ids)
                yield DecodingRequest(index, i, 1, prompt + completion.token_ids, generated, max_new(generated))

    def _notify(self, index: int) -> None:
        if self._finished is not None and not self._waiting[index]:
            self._finished(index, tuple(self._groups[index]))
