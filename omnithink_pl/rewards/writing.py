"""The writing reward: a judge prefers the candidate, the reference, or neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from omnithink_pl.judge.base import (
    AttachedJudge,
    Comparison,
    Judge,
    JudgeUnavailable,
    MeasuredJudge,
    Preference,
    ScheduledJudge,
)
from omnithink_pl.rewards.base import BAD_REFERENCE, NO_ANSWER, Reward, score_jobs
from omnithink_pl.rewards.format import extract_answer
from omnithink_pl.types import Example, Group, Message, Outcome

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine


@final
class WritingReward(Reward):
    """1 for a win against the reference, 0.5 for a tie, 0 for a loss (the paper, section 4.4).

    Undefined without an answer segment or with an empty reference; failed where the judge gave no verdict. In a
    conversation of several turns the reference is a conversation too, and the last answer is judged.

    Args:
        judge: Compares two answers to one prompt.
    """

    name = "writing"

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.awaits = judge.awaits if isinstance(judge, ScheduledJudge) else "batch"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order; all comparisons reach the judge in one call."""
        return score_jobs(groups, _comparison, lambda asked: map(_outcome, self.judge.compare(asked)))

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Pass the policy to a judge that takes one."""
        if isinstance(self.judge, AttachedJudge):
            self.judge.attach(policy, engine)

    def metrics(self) -> dict[str, float]:
        """Return the judge's statistics as ``judge/...``."""
        measured = self.judge.metrics() if isinstance(self.judge, MeasuredJudge) else {}
        return {f"judge/{name}": value for name, value in measured.items()}

    def close(self) -> None:
        """Release the judge."""
        self.judge.close()


def transcript(messages: Sequence[Message], answer: str) -> str:
    """Return a conversation up to its last question, without system prompt and thinking, and the last answer."""
    said = []
    for message in messages:
        if message["role"] == "user":
            said.append(f"Question: {message['content']}")
        elif message["role"] == "assistant":
            earlier = extract_answer(message["content"])
            said.append(f"Answer: {message['content'] if earlier is None else earlier}")
    return "\n\n".join([*said, f"Answer: {answer}"])


def _comparison(example: Example, text: str) -> Comparison | Outcome:
    reference = example.reference
    if not isinstance(reference, str):
        raise TypeError(f"{example.uid}: a writing reference is text, not {type(reference).__name__}")
    if not reference.strip():
        return Outcome.undefined(BAD_REFERENCE)
    if (answer := extract_answer(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    turns = sum(message["role"] == "user" for message in example.messages)
    if turns > 1:
        answer = transcript(example.messages, answer)
    return Comparison(example.question, answer, reference, max(turns, 1))


def _outcome(verdict: Preference | JudgeUnavailable) -> Outcome:
    if isinstance(verdict, JudgeUnavailable):
        return Outcome.failed(f"judge {verdict.cause}: {verdict}")
    return Outcome.of(verdict.value)
