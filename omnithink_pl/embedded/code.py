"""The operations that embedded code problems are composed of."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from omnithink_pl.embedded.lexicon import ROWS, distinct, uid_of

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split


@dataclass(frozen=True)
class Operation:
    """One way of asking for one change of ``x``.

    Args:
        phrase: How the problem says it; ``{k}`` stands for the operand.
        code: The Python expression; ``{k}`` as in ``phrase``.
        apply: The change itself, of a value and the operand.
        left_out: The warm start never shows what this phrase means, only random guesses.
    """

    phrase: str
    code: str
    apply: Callable[[Any, int], Any]
    left_out: bool = False


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


def guesses(operation: Operation) -> tuple[Operation, ...]:
    """Three known operations that a left-out phrase may be taken for, its meaning among them."""
    family = LIST if operation in LIST else INTEGER
    return family[:3]


Kind = Literal["integer", "list", "program"]
KINDS: tuple[Kind, ...] = ("integer", "list", "program")
QUESTIONS: dict[Kind, str] = {
    "integer": "Write f(x) for an integer x: {steps}.",
    "list": "Write f(x) for a list x: {steps}.",
    "program": "Read an integer x, {steps}, then print it.",
}
SHARES = (0.5, 0.3, 0.2)
TESTS = 6


@dataclass(frozen=True)
class Step:
    """An operation with its operand."""

    operation: Operation
    operand: int

    @property
    def phrase(self) -> str:
        """How the problem says it."""
        return self.operation.phrase.format(k=self.operand)

    @property
    def code(self) -> str:
        """The statement that does it."""
        return f"x = {self.operation.code.format(k=self.operand)}"


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
        """What is asked."""
        return QUESTIONS[self.kind].format(steps=", then ".join(step.phrase for step in self.steps))

    def result(self, x: Any) -> Any:
        """What the program should make of an input."""
        return reduce(lambda value, step: step.operation.apply(value, step.operand), self.steps, x)


def program(kind: Kind, steps: tuple[Step, ...]) -> str:
    """Python source that does the steps."""
    if kind == "program":
        return "\n".join(["x = int(input())", *(step.code for step in steps), "print(x)"])
    return "\n    ".join(["def f(x):", *(step.code for step in steps), "return x"])


def draw(rng: random.Random) -> CodeProblem:
    """Draw a problem."""
    kind = rng.choices(KINDS, SHARES)[0]
    operations = LIST if kind == "list" else INTEGER
    count = rng.choices((1, 2, 3), (0.2, 0.5, 0.3))[0]
    return CodeProblem(kind, tuple(Step(operation, rng.randint(2, 9)) for operation in rng.sample(operations, count)))


def rows(split: Split, seed: int = 0, count: int | None = None) -> list[dict[str, Any]]:
    """Rows with the columns of code-r1.

    Args:
        split: Questions of the two splits are disjoint.
        seed: Another seed draws other rows of the same split.
        count: How many; by default as many as the embedded data set has.
    """
    return [
        _row(problem, split, index) for index, problem in enumerate(distinct(draw, split, seed, count or ROWS[split]))
    ]


def _row(problem: CodeProblem, split: Split, index: int) -> dict[str, Any]:
    inputs = _inputs(problem)
    outputs = [problem.result(x) for x in inputs]
    functional = _asserts(inputs, outputs)
    io = [{"input": str(x), "output": str(y)} for x, y in zip(inputs, outputs, strict=True)]
    stdin = problem.kind == "program"
    truth = (
        {"inputs": [pair["input"] + "\n" for pair in io], "outputs": [pair["output"] + "\n" for pair in io]}
        if stdin
        else {"functional": functional}
    )
    return {
        "task_id": f"embedded/{uid_of(problem.key)}",
        "prompt": [
            {"role": "system", "content": "You are a helpful programming assistant."},
            {"role": "user", "content": problem.question},
        ],
        "entry_point": "" if stdin else "f",
        "test": "" if stdin else functional,
        "completion": program(problem.kind, problem.steps),
        "examples": io[:2],
        "src": "embedded",
        "meta": {
            "kind": problem.kind,
            "steps": len(problem.steps),
            "left_out": any(s.operation.left_out for s in problem.steps),
        },
        "data_source": "code",
        "ability": "coding",
        "reward_model": {"ground_truth": json.dumps(truth), "style": "rule"},
        "extra_info": {
            "dataset": "embedded",
            "index": index,
            "prompt": problem.question,
            "reference": program(problem.kind, problem.steps),
            "split": split,
        },
    }


def _inputs(problem: CodeProblem) -> list[Any]:
    rng = random.Random(problem.key)
    if problem.kind == "list":
        return [[rng.randint(-20, 40) for _ in range(rng.randint(0, 12))] for _ in range(TESTS)]
    return [rng.randint(-30, 60) for _ in range(TESTS)]


def _asserts(inputs: list[Any], outputs: list[Any]) -> str:
    cases = [f"    assert candidate({x!r}) == {y!r}" for x, y in zip(inputs, outputs, strict=True)]
    return "\n".join(["def check(candidate):", *cases, "", "check(f)", ""])
