"""The writing reward: what the judge is asked, and what its verdicts are worth."""

from __future__ import annotations

from collections.abc import Sequence

from omnithink_pl.judge import Comparison, JudgeUnavailable, Preference
from omnithink_pl.rewards import WritingReward
from omnithink_pl.types import State
from tests.rewards.groups import LongerWins, answered, group


class Recording(LongerWins):
    """Is unavailable for candidates that say so, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[Comparison]] = []
        self.closed = 0

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        self.calls.append(list(comparisons))
        verdicts = super().compare(comparisons)
        crashed = JudgeUnavailable("HTTP 503")
        return [crashed if c.candidate == "crash" else v for c, v in zip(comparisons, verdicts, strict=True)]

    def close(self) -> None:
        self.closed += 1


def test_win_tie_and_loss_are_one_a_half_and_zero() -> None:
    scores = WritingReward(Recording()).score([group("abc", *map(answered, ("abcd", "xyz", "a")))])
    assert [outcome.value for outcome in scores[0]] == [1.0, 0.5, 0.0]


def test_the_judge_sees_question_answer_and_reference_in_one_call_for_the_batch() -> None:
    judge = Recording()
    reward = WritingReward(judge)
    reward.score([group("ref", answered(" one "), "no answer", question="A poem?"), group("other", answered("two"))])
    assert judge.calls == [[Comparison("A poem?", "one", "ref"), Comparison("?", "two", "other")]]
    reward.close()
    assert judge.closed == 1


def test_an_unavailable_judge_is_failed_and_leaves_the_others_alone() -> None:
    scores = WritingReward(Recording()).score([group("abc", answered("crash"), "nothing", answered("abcd"))])[0]
    assert [outcome.state for outcome in scores] == [State.FAILED, State.UNDEFINED, State.VALUE]
    assert "HTTP 503" in scores[0].reason
    assert scores[2].value == 1.0


def test_an_empty_reference_is_unusable_and_the_judge_is_not_asked() -> None:
    judge = Recording()
    assert WritingReward(judge).score([group(" ", answered("abc"))])[0][0].reason == "unusable reference"
    assert judge.calls == []
