"""The three states of a reward, from a completion's text to its total."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from omnithink_pl.rewards import CodeReward, FormatReward, MathReward, Reward, Rubric, TagsReward
from omnithink_pl.sandbox import RunOutcome, Verdict
from omnithink_pl.types import State, UnitTests
from tests.rewards.groups import answered, group


class BrokenSandbox:
    """Refuses the programs that say so; passes the others."""

    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        return [Verdict(RunOutcome.REFUSED if program == "refuse" else RunOutcome.PASSED) for program, _ in jobs]

    def close(self) -> None:
        pass


def rubric(primary: Reward) -> Rubric:
    return Rubric(((primary, 1.0), (FormatReward(), 0.1), (TagsReward(), 0.1)))


def test_a_total_is_the_weighted_sum_of_what_is_defined() -> None:
    texts = [answered("5"), answered("6"), "so " + answered("5"), answered("five"), "<think>5", "5"]
    scores = rubric(MathReward()).score([group("5", *texts)])[0]
    assert [score.total for score in scores] == pytest.approx([1.2, 0.2, 1.1, 0.2, 0.025, 0.0])
    assert [score.primary.state for score in scores] == [State.VALUE] * 3 + [State.UNDEFINED] * 3
    assert {score.state for score in scores} == {State.VALUE}


def test_an_undefined_primary_leaves_the_other_components_in_place() -> None:
    score = rubric(MathReward()).score([group("?!", answered("No"))])[0][0]
    assert [(c.name, c.weight, c.outcome.value) for c in score.components] == [
        ("math", 1.0, None),
        ("format", 0.1, 1.0),
        ("tags", 0.1, 1.0),
    ]


def test_our_failure_leaves_the_completion_without_a_total_and_its_siblings_with_theirs() -> None:
    tests = UnitTests(inputs=("",), outputs=("",))
    scores = rubric(CodeReward(BrokenSandbox())).score([group(tests, answered("refuse"), answered("pass"))])[0]
    assert [score.state for score in scores] == [State.FAILED, State.VALUE]
    assert scores[0].total is None
    assert scores[1].total == pytest.approx(1.2)


def test_a_score_without_any_defined_component_is_undefined() -> None:
    score = Rubric(((MathReward(), 1.0),)).score([group("5", "5")])[0][0]
    assert (score.state, score.total) == (State.UNDEFINED, None)
