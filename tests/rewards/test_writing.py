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


def test_the_judge_sees_question_answer_and_reference_in_one_call_for_the_batch() -> None:
    judge = Recording()
    reward = WritingReward(judge)
    reward.score([group("ref", answered(" one "), "no answer", question="A poem?"), group("other", answered("two"))])
    assert reward.score([group(" ", answered("abc"))])[0][0].reason == "unusable reference"
    assert judge.calls == [[Comparison("A poem?", "one", "ref"), Comparison("?", "two", "other")]]
    reward.close()
    assert judge.closed == 1


def test_win_tie_and_loss_are_one_a_half_and_zero_and_an_unavailable_judge_is_failed() -> None:
    texts = [answered("crash"), "nothing", *map(answered, ("abcd", "xyz", "a"))]
    (scores,) = WritingReward(Recording()).score([group("abc", *texts)])
    assert [outcome.state for outcome in scores[:2]] == [State.FAILED, State.UNDEFINED]
    assert "HTTP 503" in scores[0].reason
    assert [outcome.value for outcome in scores[2:]] == [1.0, 0.5, 0.0]
