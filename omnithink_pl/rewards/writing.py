"""The writing reward: a judge prefers the candidate, the reference, or neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from omnithink_pl.judge.base import AttachedJudge, Comparison, JudgeUnavailable, MeasuredJudge, ScheduledJudge
from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.format import BAD_REFERENCE, NO_ANSWER, extract_answer
from omnithink_pl.types import Outcome

if TYPE_CHECKING:
    from omnithink_pl.judge.base import Judge, Preference
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.types import Group, Message


@final
class WritingReward(Reward):
    """1 for a win against the reference, 0.5 for a tie, 0 for a loss (the paper, section 4.4).

    Undefined without an answer segment or with an empty reference; failed where the judge could
    not say. In a conversation of several turns the reference is one too, and the last answer is judged.

    Args:
        judge: Compares two answers to one prompt.
    """

    name = "writing"

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.awaits = judge.awaits if isinstance(judge, ScheduledJudge) else "batch"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One outcome per completion, in order.

        All comparisons reach the judge in one call.

        Raises:
            TypeError: If a reference is not text.
        """
        items = [[_comparison(group, c.text) for c in group.completions] for group in groups]
        asked = [item for row in items for item in row if isinstance(item, Comparison)]
        verdicts = iter(self.judge.compare(asked) if asked else [])
        return [[_outcome(next(verdicts)) if isinstance(item, Comparison) else item for item in row] for row in items]

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Hand the policy to a judge that may ask it."""
        if isinstance(self.judge, AttachedJudge):
            self.judge.attach(policy, engine)

    def metrics(self) -> dict[str, float]:
        """What the judge measured of itself, as ``judge/...``."""
        measured = self.judge.metrics() if isinstance(self.judge, MeasuredJudge) else {}
        return {f"judge/{name}": value for name, value in measured.items()}

    def close(self) -> None:
        """Release the judge."""
        self.judge.close()


def _comparison(group: Group, text: str) -> Comparison | Outcome:
    reference = group.example.reference
    if not isinstance(reference, str):
        raise TypeError(f"{group.example.uid}: a writing reference is text, not {type(reference).__name__}")
    if not reference.strip():
        return Outcome.undefined(BAD_REFERENCE)
    answer = extract_answer(text)
    if answer is None:
        return Outcome.undefined(NO_ANSWER)
    turns = sum(message["role"] == "user" for message in group.example.messages)
    if turns > 1:
        answer = transcript(group.example.messages, answer)
    return Comparison(group.example.question, answer, reference, max(turns, 1))


def transcript(messages: Sequence[Message], answer: str) -> str:
    """A conversation as a judge reads it: without its system prompt, and answers without thinking.

    Args:
        messages: Up to the last question.
        answer: The last answer.
    """
    said = [
        f"{'Question' if message['role'] == 'user' else 'Answer'}: {_spoken(message)}"
        for message in messages
        if message["role"] != "system"
    ]
    return "\n\n".join([*said, f"Answer: {answer}"])


def _spoken(message: Message) -> str:
    answer = extract_answer(message["content"]) if message["role"] == "assistant" else None
    return message["content"] if answer is None else answer


def _outcome(verdict: Preference | JudgeUnavailable) -> Outcome:
    if isinstance(verdict, JudgeUnavailable):
        return Outcome.failed(f"judge {verdict.cause}: {verdict}")
    return Outcome.of(verdict.value)
