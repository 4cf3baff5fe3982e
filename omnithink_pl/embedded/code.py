"""Miniature code problems: one to three operations on an integer or a list."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, final

from omnithink_pl.embedded.problems import distinct
from omnithink_pl.sources.base import Source, Split, text_uid
from omnithink_pl.types import Example, UnitTests


@dataclass(frozen=True)
class Operation:
    """A phrase that asks for a change of ``x``; in it and its code ``{k}`` stands for the operand."""

    phrase: str
    code: str  # Python expression
    apply: Callable[[Any, int], Any]  # to a value and the operand
    left_out: bool = False  # the warm start never shows what the phrase means, only random guesses


INTEGER = (
    Operation("add {k}", "x + {k}", lambda x, k: x + k),
    Operation("subtract {k}", "x - {k}", lambda x, k: x - k),
    Operation("multiply by {k}", "x * {k}", lambda x, k: x * k),
    Operation("take it modulo {k}", "x % {k}", lambda x, k: x % k),
    Operation("floor-divide by {k}", "x // {k}", lambda x, k: x // k),
    Operation("double it", "x * 2", lambda x, k: x * 2),
    Operation("square it", "x * x", lambda x, k: x * x),
    Operation("negate it", "-x", lambda x, k: -x),
    Operation("lower it by {k}", "x - {k}", lambda x, k: x - k, left_out=True),
    Operation("scale it by {k}", "x * {k}", lambda x, k: x * k, left_out=True),
    Operation("raise it by {k}", "x + {k}", lambda x, k: x + k, left_out=True),
)

LIST = (
    Operation("append {k}", "x + [{k}]", lambda x, k: [*x, k]),
    Operation("keep the first {k}", "x[:{k}]", lambda x, k: x[:k]),
    Operation("drop the first {k}", "x[{k}:]", lambda x, k: x[k:]),
    Operation("put {k} in front", "[{k}] + x", lambda x, k: [k, *x]),
    Operation("sort it", "sorted(x)", lambda x, k: sorted(x)),
    Operation("reverse it", "x[::-1]", lambda x, k: x[::-1]),
    Operation("cut it to {k}", "x[:{k}]", lambda x, k: x[:k], left_out=True),
)

Kind = Literal["integer", "list", "program"]
QUESTIONS: dict[Kind, str] = {
    "integer": "Write f(x) for an integer x: {steps}.",
    "list": "Write f(x) for a list x: {steps}.",
    "program": "Read an integer x, {steps}, then print it.",
}
KIND_SHARES: dict[Kind, float] = {"integer": 0.5, "list": 0.3, "program": 0.2}
STEP_SHARES = {1: 0.2, 2: 0.5, 3: 0.3}
TESTS = 6


@dataclass(frozen=True)
class Step:
    """An operation with its operand."""

    operation: Operation
    operand: int


@dataclass(frozen=True)
class CodeProblem:
    """One to three operations, as a function of an integer or a list, or as a program."""

    kind: Kind
    steps: tuple[Step, ...]

    @property
    def key(self) -> str:
        """The question: it says everything about the problem."""
        return self.question

    @property
    def question(self) -> str:
        """The operations in words."""
        steps = (step.operation.phrase.format(k=step.operand) for step in self.steps)
        return QUESTIONS[self.kind].format(steps=", then ".join(steps))

    def result(self, x: Any) -> Any:
        """Compute what a right program returns or prints for an input."""
        return reduce(lambda value, step: step.operation.apply(value, step.operand), self.steps, x)


def draw(rng: random.Random) -> CodeProblem:
    """Draw a problem."""
    kind = rng.choices(tuple(KIND_SHARES), tuple(KIND_SHARES.values()))[0]
    count = rng.choices(tuple(STEP_SHARES), tuple(STEP_SHARES.values()))[0]
    operations = rng.sample(LIST if kind == "list" else INTEGER, count)
    return CodeProblem(kind, tuple(Step(operation, rng.randint(2, 9)) for operation in operations))


def program(kind: Kind, steps: tuple[Step, ...]) -> str:
    """Write Python source that does the steps."""
    lines = [f"x = {step.operation.code.format(k=step.operand)}" for step in steps]
    if kind == "program":
        return "\n".join(["x = int(input())", *lines, "print(x)"])
    return "\n    ".join(["def f(x):", *lines, "return x"])


def unit_tests(problem: CodeProblem) -> UnitTests:
    """Test a problem on ``TESTS`` inputs: asserts for a function, input and output for a program."""
    rng = random.Random(problem.key)
    inputs: list[Any]
    if problem.kind == "list":
        inputs = [[rng.randint(-20, 40) for _ in range(rng.randint(0, 12))] for _ in range(TESTS)]
    else:
        inputs = [rng.randint(-30, 60) for _ in range(TESTS)]
    outputs = [problem.result(x) for x in inputs]
    if problem.kind == "program":
        return UnitTests(tuple(f"{x}\n" for x in inputs), tuple(f"{y}\n" for y in outputs))
    cases = [f"    assert candidate({x!r}) == {y!r}" for x, y in zip(inputs, outputs, strict=True)]
    functional = "\n".join(["def check(candidate):", *cases, "", "check(f)", ""])
    return UnitTests(functional=functional, entry_point="f")


@final
class EmbeddedCode(Source):
    """Miniature code problems with unit tests of both kinds. The questions of the two splits are disjoint."""

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the same problems each time."""
        return [
            Example(task, f"embedded/{text_uid(problem.key)}", problem.question, unit_tests(problem))
            for problem in distinct(draw, split)
        ]
