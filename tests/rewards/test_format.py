from __future__ import annotations

import pytest

from omnithink_pl.rewards import FormatReward, TagsReward
from tests.rewards.groups import outcome

WELL_FORMED = [
    "<think>a</think><answer>b</answer>",
    " \n<think>\na\nb\n</think>\n\n<answer>\nc\nd\n</answer>\n",
    "<think></think><answer></answer>",
]
ILL_FORMED = [
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
]


@pytest.mark.parametrize("text", WELL_FORMED)
def test_each_segment_once_in_order_is_well_formed(text: str) -> None:
    assert outcome(FormatReward(), "", text).value == 1.0
    assert outcome(TagsReward(), "", text).value == 1.0


@pytest.mark.parametrize(("text", "tags"), ILL_FORMED)
def test_anything_else_is_ill_formed_and_each_tag_that_occurs_once_counts_a_quarter(text: str, tags: float) -> None:
    assert outcome(FormatReward(), "", text).value == 0.0
    assert outcome(TagsReward(), "", text).value == tags


def test_names_are_those_of_the_metrics() -> None:
    assert (FormatReward().name, TagsReward().name) == ("format", "tags")
