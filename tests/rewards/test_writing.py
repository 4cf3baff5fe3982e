from __future__ import annotations

from collections.abc import Sequence

from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference
from omnithink_pl.rewards import WritingReward
from omnithink_pl.types import State
from tests.rewards.groups import answered, group


class LongerIsBetter:
    """Prefers the longer text; is out of order for candidates that say so."""

    def __init__(self) -> None:
        self.calls: list[list[Comparison]] = []
        self.closed = 0

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        self.calls.append(list(comparisons))
        return [self._one(c) for c in comparisons]

    def _one(self, comparison: Comparison) -> Preference | JudgeUnavailable:
        if comparison.candidate == "crash":
            return JudgeUnavailable("HTTP 503")
        difference = len(comparison.candidate) - len(comparison.reference)
        return Preference.WIN if difference > 0 else Preference.LOSS if difference < 0 else Preference.TIE

    def close(self) -> None:
        self.closed += 1


def test_win_tie_and_loss_are_one_a_half_and_zero() -> None:
    scores = WritingReward(LongerIsBetter()).score([group("abc", *map(answered, ("abcd", "xyz", "a")))])
    assert [outcome.value for outcome in scores[0]] == [1.0, 0.5, 0.0]


def test_the_judge_sees_question_answer_and_reference_in_one_call_for_the_batch() -> None:
    judge = LongerIsBetter()
    WritingReward(judge).score(
        [group("ref", answered(" one "), "no answer", question="A poem?"), group("other", answered("two"))]
    )
    assert judge.calls == [[Comparison("A poem?", "one", "ref"), Comparison("?", "two", "other")]]


def test_an_unavailable_judge_is_failed_and_leaves_the_others_alone() -> None:
    judge = LongerIsBetter()
    scores = WritingReward(judge).score([group("abc", answered("crash"), "nothing", answered("abcd"))])[0]
    assert [outcome.state for outcome in scores] == [State.FAILED, State.UNDEFINED, State.VALUE]
    assert "HTTP 503" in scores[0].reason
    assert scores[2].value == 1.0


def test_an_empty_reference_is_unusable_and_the_judge_is_not_asked() -> None:
    judge = LongerIsBetter()
    assert WritingReward(judge).score([group(" ", answered("abc"))])[0][0].reason == "unusable reference"
    assert judge.calls == []


def test_closing_the_reward_closes_the_judge() -> None:
    judge = LongerIsBetter()
    WritingReward(judge).close()
    assert judge.closed == 1
