"""What each task asks, and how."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omnithink_pl.embedded import EmbeddedCode, EmbeddedMath, EmbeddedQA, EmbeddedWriting
from omnithink_pl.errors import BadInput
from omnithink_pl.judge.embedded import EmbeddedJudge
from omnithink_pl.sources import Source, Split
from omnithink_pl.tasks import QA, Code, Math, Task, Writing
from omnithink_pl.types import Example, Options
from tests.rewards.groups import SayingSandbox

TASKS = (
    Code(EmbeddedCode(), SayingSandbox()),
    Math(EmbeddedMath()),
    QA(EmbeddedQA()),
    Writing(EmbeddedWriting(), EmbeddedJudge()),
)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_prompt_is_a_system_and_a_user_message_with_the_question_in_full(task: Task) -> None:
    for example in task.examples("test", seed=0):
        system, user = example.messages
        assert (system["role"], user["role"]) == ("system", "user")
        assert all(tag in system["content"] for tag in ("<think>", "</think>", "<answer>", "</answer>"))
        assert example.question in user["content"]
        assert example.task == task.name


def test_qa_options_have_no_letters_and_their_order_depends_on_seed_and_example_only() -> None:
    task = QA(EmbeddedQA())
    first, again, other = (task.examples("test", seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    for example in first:
        assert isinstance(example.reference, Options)
        prompt = example.messages[1]["content"]
        assert [line[2:] for line in prompt.split("\n") if line.startswith("- ")] == list(example.reference.texts)


def test_the_right_option_stands_everywhere_equally_often() -> None:
    positions = [0] * 5
    for seed in range(4):
        for example in QA(EmbeddedQA()).examples("test", seed=seed):
            assert isinstance(example.reference, Options)
            positions[example.reference.texts.index(example.reference.answers[0])] += 1
    expected = sum(positions) / 5
    assert sum((count - expected) ** 2 / expected for count in positions) < 18.5  # chi-square, 4 df, p = 0.001


class Given(Source):
    """Whatever examples somebody's own source may give."""

    def __init__(self, *examples: Example) -> None:
        self.given = list(examples)

    def examples(self, task: str, split: Split) -> list[Example]:
        return self.given


FINE: Any = Example("qa", "u", "Why?", Options(("so", "no"), ("so",)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((replace(FINE, reference="because"),), "example 'u' .* of the type str, and QA needs Options"),
        ((FINE, FINE), "example 'u' of the train split is there twice; give each"),
        ((replace(FINE, question=["Why?"]),), "its question cannot be used: it is a list and not a text"),
        ((replace(FINE, question="\u200b \ufeff"),), "its question cannot be used: it is empty"),
        ((replace(FINE, question="half \ud83d"),), r"its question cannot be used: .*lone surrogate, U\+D83D"),
        ((replace(FINE, uid=None),), "its uid cannot be used: it is empty"),
        ((), "the train split is empty"),
    ],
)
def test_examples_that_no_source_should_give_are_named(given: tuple[Example, ...], message: str) -> None:
    with pytest.raises(BadInput, match=rf"data\.tasks\.qa\.source: .*{message}"):
        QA(Given(*given)).examples("train", seed=0)


def test_the_primary_reward_weighs_1_and_format_and_tags_weigh_what_they_are_told() -> None:
    rewards = QA(EmbeddedQA(), format_weight=0.2, tags_weight=0.3).rubric.rewards
    assert [(reward.name, weight) for reward, weight in rewards] == [("qa", 1.0), ("format", 0.2), ("tags", 0.3)]
