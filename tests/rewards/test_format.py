"""The answer segment, and the rewards for the form of a completion."""

from __future__ import annotations

import pytest

from omnithink_pl.rewards import FormatReward, TagsReward, extract_answer
from tests.rewards.groups import outcome


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think><answer>5</answer>", "5"),
        ("<think>a</think>\n<answer>\n two words \n</answer>\n", "two words"),
        ("<answer>5</answer>", "5"),
        ("<think>never closed <answer>5</answer>", "5"),
        ("<think>I write <answer>4</answer> next</think><answer>5</answer>", "5"),
        ("<think>an <answer> tag</think><answer>5</answer>", "5"),
        ("<think>a</think><answer></answer>", ""),
        ("prose <answer>5</answer> prose", "5"),
        # No single answer after the thinking is no answer.
        ("", None),
        ("5", None),
        ("<think>a</think><answer>5", None),
        ("<think>a</think>5</answer>", None),
        ("</answer>5<answer>", None),
        ("<answer>4</answer><answer>5</answer>", None),
        ("<answer>5</answer></answer>", None),
        ("<answer><answer>5</answer>", None),
        ("<answer>5</answer><think>a</think>", None),
        ("<ANSWER>5</ANSWER>", None),
    ],
)
def test_the_answer_is_the_only_segment_after_the_thinking(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think><answer>b</answer>",
        " \n<think>\na\nb\n</think>\n\n<answer>\nc\nd\n</answer>\n",
        "<think></think><answer></answer>",
    ],
)
def test_each_segment_once_in_order_is_well_formed(text: str) -> None:
    assert outcome(FormatReward(), "", text).value == 1.0
    assert outcome(TagsReward(), "", text).value == 1.0


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", 0.0),
        ("5", 0.0),
        ("<think>a</think>", 0.5),
        ("<think>a</think><answer>b", 0.75),
        ("<answer>b</answer><think>a</think>", 1.0),
        ("<think>a<answer>b</answer></think>", 1.0),
        ("<answer><think>a</think>b</answer>", 1.0),
        ("<think>a<answer></think>b</answer>", 1.0),
        ("So: <think>a</think><answer>b</answer>", 1.0),
        ("<think>a</think> so <answer>b</answer>", 1.0),
        ("<think>a</think><answer>b</answer>!", 1.0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0.5),
        ("<think>a <answer> b</think><answer>c</answer>", 0.75),
        ("</think>a<think></answer>b<answer>", 1.0),
        ("<think>a</think><answer>b</answer>" * 2, 0.0),
    ],
)
def test_anything_else_is_ill_formed_and_each_tag_that_occurs_once_counts_a_quarter(text: str, tags: float) -> None:
    assert outcome(FormatReward(), "", text).value == 0.0
    assert outcome(TagsReward(), "", text).value == tags
