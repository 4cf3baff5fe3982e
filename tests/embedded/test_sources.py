"""Embedded examples: always the same, held out where they say so, and paid in full for their reference answers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from math import prod
from typing import Any

import pytest

from omnithink_pl.embedded import EmbeddedCode, EmbeddedMath, EmbeddedQA, EmbeddedWriting, code, math, qa, writing
from omnithink_pl.embedded.problems import distinct
from omnithink_pl.judge.embedded import EmbeddedJudge
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.sources import Source
from omnithink_pl.tasks import QA, Code, Math, Task, Writing
from omnithink_pl.types import Completion, Example, Group, Options, UnitTests

SOURCES: dict[str, tuple[Callable[[], Source], Callable[[random.Random], Any]]] = {
    "code": (EmbeddedCode, code.draw),
    "math": (EmbeddedMath, math.draw),
    "qa": (EmbeddedQA, qa.draw),
    "writing": (EmbeddedWriting, writing.draw),
}

# Of train and test. Results on these examples are published, and the packaged policy never saw the held-out ones.
DIGESTS = {
    "code": ("a52609da9ff024b0", "13249c0c22150206"),
    "math": ("21ea67ca1a25dbe5", "4cf9b6be2a42b494"),
    "qa": ("141d34e8eb98dd51", "3580cc637bded18d"),
    "writing": ("1b83b1ac6badb9e9", "60114565e051fc2e"),
}


def digest(examples: list[Example]) -> str:
    rows: list[Any] = []
    for example in examples:
        match example.reference:
            case UnitTests() as tests:
                rows.append((example.uid, example.question, tests.inputs, tests.outputs, tests.functional))
            case Options() as options:
                rows.append((example.uid, example.question, options.texts, options.answers))
            case text:
                rows.append((example.uid, example.question, text))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@pytest.mark.parametrize("task", DIGESTS)
def test_examples_are_those_that_they_always_were(task: str) -> None:
    source = SOURCES[task][0]()
    assert (digest(source.examples(task, "train")), digest(source.examples(task, "test"))) == DIGESTS[task]


def identity(task: str, question: str, options: tuple[str, ...]) -> str:
    """What a problem asks, without what does not matter: options in any order, names that change nothing."""
    if task == "code":
        return question
    if task == "qa":
        return f"{question} {sorted(options)}"
    words = question.replace(",", " ").replace(".", " ").split()
    if task == "writing":
        return f"{sorted(word for word in words if word in writing.NOUNS)} {words[-1]}"
    names = {*math.PEOPLE, *math.PEOPLE.values(), *math.ITEMS, *math.BOXES}
    return " ".join(word for word in words if word not in names)


@pytest.mark.parametrize("task", SOURCES)
def test_no_held_out_problem_is_a_training_problem_whatever_the_seed(task: str) -> None:
    make, draw = SOURCES[task]

    def identities(problems: list[Any]) -> set[str]:
        return {identity(task, problem.question, getattr(problem, "options", ())) for problem in problems}

    held_out = identities(distinct(draw, "test"))
    assert not held_out & identities([p for seed in (0, 1) for p in distinct(draw, "train", seed, 1500)])
    examples = {split: make().examples(task, split) for split in ("train", "test")}
    assert (len(examples["train"]), len(examples["test"])) == (640, 256)
    assert len(held_out) == 256  # no duplicates
    assert len({example.uid for found in examples.values() for example in found}) == 640 + 256


def test_both_kinds_of_unit_tests_are_there() -> None:
    tests = [e.reference for e in EmbeddedCode().examples("code", "train") if isinstance(e.reference, UnitTests)]
    functional = [one.functional for one in tests if one.functional]
    assert 0.6 < len(functional) / len(tests) < 0.95
    assert all(text.rstrip().endswith("check(f)") for text in functional)
    assert all(0 < len(one.inputs) == len(one.outputs) <= 8 for one in tests if not one.functional)


def test_training_asks_for_each_left_out_fact_often_enough_to_be_found() -> None:
    asked = [problem.subject for problem in distinct(qa.draw, "train")]
    assert all(asked.count(subject) >= 10 for kind in qa.KINDS for subject in kind.left_out)


def test_math_answers_are_what_an_independent_reading_of_the_problem_gives() -> None:
    signs = {verb.phrase.split()[0]: verb.sign for verb in math.VERBS}
    for example in EmbeddedMath().examples("math", "test"):
        first, *events = (sentence.split() for sentence in example.question.split(". ")[:-1])
        total = prod(int(word) for word in first if word.isdigit())
        total += sum(signs[event[1]] * int(word) for event in events for word in event if word.isdigit())
        assert example.reference == str(total)


def answered(example: Example, answer: str) -> Group:
    text = f"<think>so</think><answer>{answer}</answer>"
    return Group(example, (0,), (Completion((1,), (0.0,), text, "stop"),))


def primaries(task: Task, groups: list[Group]) -> list[float | None]:
    return [row[0].primary.value for row in task.rubric.score(groups)]


def test_right_programs_pass_their_tests_and_one_that_does_nothing_does_not() -> None:
    task = Code(EmbeddedCode(), HardenedSandbox())
    examples = task.examples("test", seed=0)
    programs = [code.program(problem.kind, problem.steps) for problem in distinct(code.draw, "test")]
    assert primaries(task, list(map(answered, examples, programs))) == [1.0] * len(examples)
    idle = [answered(example, "def f(x):\n    return x") for example in examples]
    assert sum(value or 0.0 for value in primaries(task, idle)) / len(idle) < 0.05
    task.close()


def test_qa_answers_are_right_and_every_other_option_is_wrong() -> None:
    task = QA(EmbeddedQA())
    for example in task.examples("test", seed=0):
        assert isinstance(example.reference, Options)
        groups = [answered(example, option) for option in example.reference.texts]
        right = [float(option in example.reference.answers) for option in example.reference.texts]
        assert primaries(task, groups) == right
        assert sum(right) == 1.0
        assert len(set(example.reference.texts)) == len(right) == qa.OPTIONS


@pytest.mark.parametrize(
    ("task", "value"), [(Math(EmbeddedMath()), 1.0), (Writing(EmbeddedWriting(), EmbeddedJudge()), 0.5)]
)
def test_a_reference_is_right_or_ties_with_itself(task: Task, value: float) -> None:
    for example in task.examples("test", seed=0)[:100]:
        assert primaries(task, [answered(example, str(example.reference))]) == [value]
    task.close()
