"""What is to be drawn in one call, and how completions come together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from omnithink_pl.policy import Policy
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
        self._most = most or sampling.n
        begun = begun or [()] * len(prompts)
        self._groups = [[*own] or [Completion((), (), "", "length")] * sampling.n for own in begun]
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
