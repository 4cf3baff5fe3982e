"""The operations that embedded code problems are composed of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
