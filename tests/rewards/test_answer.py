from __future__ import annotations

import pytest

from omnithink_pl.rewards import extract_answer


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
    ],
)
def test_answer_is_what_follows_the_thinking(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "<think>a</think><answer>5",
        "<think>a</think>5</answer>",
        "</answer>5<answer>",
        "<answer>4</answer><answer>5</answer>",
        "<answer>5</answer></answer>",
        "<answer><answer>5</answer>",
        "<answer>5</answer><think>a</think>",
        "<ANSWER>5</ANSWER>",
    ],
)
def test_no_single_answer_after_the_thinking_is_no_answer(text: str) -> None:
    assert extract_answer(text) is None
