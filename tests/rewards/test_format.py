"""The answer segment, and the rewards for the form of a completion."""

from __future__ import annotations

import pytest

from omnithink_pl.rewards import FormatReward, TagsReward, extract_answer
from tests.rewards.groups import outcome


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ("two words", ["<think>a</think>\n<answer>\n two words \n</answer>\n"]),
        ("", ["<think>a</think><answer></answer>"]),
        (
            "5",
            [
                "<think>a</think><answer>5</answer>",
                "<answer>5</answer>",
                "<think>never closed <answer>5</answer>",
                "<think>I write <answer>4</answer> next</think><answer>5</answer>",
                "<think>an <answer> tag</think><answer>5</answer>",
                "prose <answer>5</answer> prose",
            ],
        ),
        (None, ["", "5", "<think>a</think><answer>5", "<think>a</think>5</answer>", "</answer>5<answer>"]),
        (None, ["<answer>4</answer><answer>5</answer>", "<answer>5</answer></answer>", "<answer><answer>5</answer>"]),
        (None, ["<answer>5</answer><think>a</think>", "<ANSWER>5</ANSWER>"]),
    ],
)
def test_the_answer_is_the_only_segment_after_the_thinking(answer: str | None, texts: list[str]) -> None:
    assert [extract_answer(text) for text in texts] == [answer] * len(texts)


WELL_FORMED = [
    "<think>a</think><answer>b</answer>",
    " \n<think>\na\nb\n</think>\n\n<answer>\nc\nd\n</answer>\n",
    "<think></think><answer></answer>",
]


@pytest.mark.parametrize(
    ("well_formed", "tags", "texts"),
    [
        (1.0, 1.0, WELL_FORMED),
        (0.0, 0.0, ["", "5", WELL_FORMED[0] * 2]),
        (0.0, 0.5, ["<think>a</think>", "<think>a</think><think>a</think><answer>b</answer>"]),
        (0.0, 0.75, ["<think>a</think><answer>b", "<think>a <answer> b</think><answer>c</answer>"]),
        (0.0, 1.0, ["<answer>b</answer><think>a</think>", "</think>a<think></answer>b<answer>"]),
        (0.0, 1.0, ["<think>a<answer>b</answer></think>", "<answer><think>a</think>b</answer>"]),
        (0.0, 1.0, ["<think>a<answer></think>b</answer>", "<think>a</think> so <answer>b</answer>"]),
        (0.0, 1.0, ["So: <think>a</think><answer>b</answer>", "<think>a</think><answer>b</answer>!"]),
    ],
)
def test_each_segment_once_in_order_is_well_formed_and_each_tag_that_occurs_once_counts_a_quarter(
    well_formed: float, tags: float, texts: list[str]
) -> None:
    for text in texts:
        found = outcome(FormatReward(), "", text).value, outcome(TagsReward(), "", text).value
        assert found == (well_formed, tags), text
