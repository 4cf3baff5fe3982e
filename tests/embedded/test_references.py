"""Every reference answer of the embedded tasks is paid in full by its own reward."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnithink_pl.embedded import code
from omnithink_pl.judge.embedded import EmbeddedJudge
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.sources import CodeR1, CreativeWritingShareGPT, OpenR1Math, SuperGPQA
from omnithink_pl.tasks import QA, Code, Math, Task, Writing
from omnithink_pl.types import Completion, Example, Group, Options


def answered(example: Example, answer: str) -> Group:
    text = f"<think>so</think><answer>{answer}</answer>"
    return Group(example, (0,), (Completion((1,), (0.0,), text, "stop"),))


def primaries(task: Task, groups: list[Group]) -> list[float | None]:
    return [row[0].primary.value for row in task.rubric.score(groups)]


@pytest.fixture
def coding() -> Iterator[Code]:
    task = Code(CodeR1(), HardenedSandbox())
    yield task
    task.close()


def test_code_completions_pass_their_tests_and_a_program_that_does_nothing_does_not(coding: Code) -> None:
    examples = coding.examples("test", seed=0)
    programs = {row["task_id"]: row["completion"] for row in code.rows("test")}
    groups = [answered(example, programs[example.uid]) for example in examples]
    assert primaries(coding, groups) == [1.0] * len(groups)
    idle = [answered(example, "def f(x):\n    return x") for example in examples]
    assert sum(value or 0.0 for value in primaries(coding, idle)) / len(idle) < 0.05


def test_math_answers_are_right() -> None:
    task = Math(OpenR1Math())
    groups = [answered(example, str(example.reference)) for example in task.examples("test", seed=0)]
    assert primaries(task, groups) == [1.0] * len(groups)
    task.close()


def test_qa_answers_are_right_and_every_other_option_is_wrong() -> None:
    task = QA(SuperGPQA())
    for example in task.examples("test", seed=0):
        assert isinstance(example.reference, Options)
        groups = [answered(example, option) for option in example.reference.texts]
        right = [float(option in example.reference.answers) for option in example.reference.texts]
        assert primaries(task, groups) == right
        assert sum(right) == 1.0


def test_a_writing_reference_ties_with_itself() -> None:
    task = Writing(CreativeWritingShareGPT(), EmbeddedJudge())
    for example in task.examples("test", seed=0)[:40]:
        assert primaries(task, [answered(example, str(example.reference))]) == [0.5]
