"""Which completions rejection sampling keeps."""

from __future__ import annotations

import pytest

from omnithink_pl.data.demonstrations import COUNTED, Selection
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.types import Completion, Example, Group, Score
from tests.scores import FAILED, UNDEFINED, score

RIGHT, WRONG = score(1.0), score(0.0)


def scored(task: str, *completions: tuple[str, Score], cut: str = "") -> ScoredGroup:
    """A group of texts with their scores; the text ``cut`` was cut off."""
    drawn = tuple(Completion((1,), (-0.1,), text, "length" if text == cut else "stop") for text, _ in completions)
    example = Example(task, "row-1", "?", "!", ({"role": "user", "content": "?"},))
    return ScoredGroup(Group(example, (3,), drawn), tuple(s for _, s in completions), (None,) * len(drawn))


def test_correct_ones_are_kept_once_each_up_to_the_limit() -> None:
    group = scored(
        "math", ("a", WRONG), ("b", RIGHT), (" b\n", RIGHT), ("c", RIGHT), ("d", RIGHT), ("b", RIGHT), ("e", WRONG)
    )
    rows, counts = Selection(per_prompt=2)([group])
    assert [(row["completion"], row["sample"]) for row in rows] == [("b", 1), ("c", 3)]
    assert rows[0]["messages"] == [{"role": "user", "content": "?"}]
    assert dict(counts["math"]) == {
        "prompts": 1, "solved": 1, "completions": 7, "correct": 5, "wrong": 2, "kept": 2, "repeated": 2, "surplus": 1
    }  # fmt: skip


def test_what_we_failed_to_score_is_neither_correct_nor_wrong() -> None:
    group = scored("code", ("a", score(FAILED)), ("b", score(1.0, layout=FAILED)), ("c", score(UNDEFINED)))
    rows, counts = Selection()([group])
    assert rows == []
    assert {name: counts["code"][name] for name in COUNTED} == dict.fromkeys(COUNTED, 0) | {
        "prompts": 1, "completions": 3, "failed": 2, "undefined": 1
    }  # fmt: skip


def test_a_broken_form_is_correct_but_kept_only_when_asked_for() -> None:
    group = scored("qa", ("a", score(1.0, layout=0.0)), ("b", score(1.0, tags=0.75)), ("c", RIGHT), cut="c")
    assert Selection()([group])[1]["qa"]["malformed"] == 3
    rows, counts = Selection(well_formed=False)([group])
    assert [row["completion"] for row in rows] == ["a", "b"], "one that was cut off is never kept"
    assert counts["qa"]["correct"] == 3


THINKING = "<think>so</think><answer>5</answer>"


@pytest.mark.parametrize("blank", ["", "\n", " \u200b"])
def test_a_form_with_nothing_in_it_is_broken(blank: str) -> None:
    for text in (f"<think>so</think><answer>{blank}</answer>", f"<think>{blank}</think><answer>5</answer>"):
        rows, counts = Selection(correct=None)([scored("writing", (text, RIGHT), (THINKING, RIGHT))])
        assert [row["completion"] for row in rows] == [THINKING]
        assert counts["writing"]["malformed"] == 1
        assert len(Selection(correct=None, well_formed=False)([scored("writing", (text, RIGHT))])[0]) == 1


def test_thinking_that_the_chat_template_leaves_blank_is_not_the_policys() -> None:
    opened = "<think>\n\n</think>\n\n"
    group = scored("math", (f"{opened}<answer>5</answer>", RIGHT), (f"{opened}<answer></answer>", RIGHT))
    assert [row["sample"] for row in Selection()([group], opened)[0]] == [0]


def test_a_threshold_below_one_admits_ties() -> None:
    group = scored("writing", ("a", score(0.5)), ("b", score(0.4)))
    assert Selection()([group])[0] == []
    assert [row["reward"] for row in Selection(correct=0.5)([group])[0]] == [0.5]


def test_as_references_all_that_ended_in_full_form_count_whatever_the_reward_says() -> None:
    group = scored(
        "writing", ("a", score(0.0, tags=0.5)), ("b", WRONG), ("c", score(UNDEFINED)), ("d", score(FAILED)), cut="b"
    )
    rows, counts = Selection(correct=None)([group])
    assert [(row["completion"], row["reward"]) for row in rows] == [("c", None), ("d", None)]
    assert counts["writing"]["malformed"] == 2
    assert counts["writing"]["correct"] == 0, "what is kept is not therefore right"


def test_every_completion_has_one_fate_and_tasks_are_apart() -> None:
    groups = [
        scored("math", ("a", RIGHT), ("a", RIGHT), ("b", WRONG)),
        scored("qa", ("a", score(UNDEFINED)), ("b", score(FAILED)), ("c", score(1.0, layout=0.0))),
    ]
    _, counts = Selection(per_prompt=1)(groups)
    fates = ("kept", "repeated", "surplus", "malformed", "wrong", "undefined", "failed")
    for count in counts.values():
        assert sum(count[fate] for fate in fates) == count["completions"] == 3


def test_settings_that_keep_nothing_or_all_are_named() -> None:
    with pytest.raises(BadInput, match=r"demonstrations\.selection\.per_prompt is 0"):
        Selection(per_prompt=0)
    for correct in (0.0, 1.5):
        with pytest.raises(BadInput, match=rf"demonstrations\.selection\.correct is {correct}; .* of task 'math'"):
            Selection(correct=correct).check({"math": (0.0, 1.0)})
    Selection(correct=0.0).check({"brevity": (-1.0, 0.0)})
