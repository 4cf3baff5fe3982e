"""The math reward: is the answer equal to the gold, symbolically?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, final

from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.answer import BAD_REFERENCE, NO_ANSWER, extract_answer
from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.cache import OutcomeCache
from omnithink_pl.rewards.expression import (
    TIMES_TEN,
    as_power_of_ten,
    as_words,
    compare_numbers,
    final_expression,
    is_mathematical,
)
from omnithink_pl.sandbox.pool import Lost, WorkerPool
from omnithink_pl.types import Outcome

if TYPE_CHECKING:
    from omnithink_pl.types import Example, Group

_MEMORY_MB = 1024
# A job has two attempts, should a worker die by accident: together they keep to the deadline. The worker's own
# alarm rings first and costs no worker.
_ATTEMPT, _ALARM = 0.5, 0.4
_OUTCOMES = {
    "equal": Outcome.of(1.0),
    "different": Outcome.of(0.0),
    "bad gold": Outcome.undefined(BAD_REFERENCE),
    "bad answer": Outcome.undefined("unparseable answer"),
    "slow": Outcome.undefined("verification timed out"),
    Lost.TIMEOUT: Outcome.undefined("verification timed out"),
    Lost.DIED: Outcome.failed("verifier died"),
}


@final
class MathReward(Reward):
    r"""1 where math-verify finds the answer equal to the gold, else 0 (the paper, section 4.4).

    The expression is taken from the answer segment: its last ``\boxed{}``, its only formula, or
    all of it. Undefined without an answer segment, where answer or gold do not parse, are longer or
    nested deeper than any result, and where verifying takes too long; failed where the verifier
    died twice.

    A gold that is an option's letter or words, such as ``B``, ``\text{even}`` or ``No``, is compared as
    text, without case: read as mathematics, ``No`` is the product of n and o.

    Verification runs in processes of its own. Plain numbers are compared exactly without them;
    equal (gold, answer) pairs are verified once, and verdicts are remembered.

    Known leniencies and asymmetries of math-verify, kept because scores elsewhere have them: gold
    ``50`` accepts ``50\%``; gold ``(1,2)`` refuses ``1<x<2``, though gold ``1<x<2`` accepts
    ``(1,2)``; ``0.333`` is not ``1/3``; ``90^\circ`` is not ``\pi/2``; units are ignored.

    Args:
        workers: Processes that verify; they start when first needed.
        timeout: Seconds that one answer may cost; a process that does not come back is killed and replaced.
    """

    name = "math"
    awaits = "group"

    def __init__(self, workers: int = 1, timeout: float = 5.0) -> None:
        if timeout <= 0:
            raise BadInput(f"timeout: {timeout} seconds is too short; use more than 0")
        self.timeout = timeout
        # Run as a file and with -P: beside it lie a math.py and a code.py that hide Python's own.
        worker = str(files("omnithink_pl.rewards") / "math_worker.py")
        self._pool = WorkerPool([sys.executable, "-P", worker, str(_ALARM * timeout), str(_MEMORY_MB)], workers)
        self._cache: OutcomeCache[tuple[str, str]] = OutcomeCache()

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One outcome per completion, in order.

        Raises:
            TypeError: If a reference is not text.
            RuntimeError: If the verifier does not start.
        """
        items = [[_pair(group.example, c.text) for c in group.completions] for group in groups]
        pairs = [item for row in items for item in row if not isinstance(item, Outcome)]
        outcomes = iter(self._cache.look_up(pairs, self._verify))
        return [[item if isinstance(item, Outcome) else next(outcomes) for item in row] for row in items]

    def close(self) -> None:
        """End the worker processes. Safe to call twice."""
        self._pool.close()

    def _verify(self, pairs: list[tuple[str, str]]) -> list[Outcome]:
        jobs = [{"gold": gold, "answer": answer} for gold, answer in pairs]
        return [_OUTCOMES[reply] for reply in self._pool.map(jobs, _ATTEMPT * self.timeout)]


def _pair(example: Example, text: str) -> tuple[str, str] | Outcome:
    """What remains to be verified, or the outcome where that is known already."""
    if not isinstance(example.reference, str):
        raise TypeError(f"{example.uid}: a math reference is text, not {type(example.reference).__name__}")
    gold = final_expression(example.reference)
    words = as_words(gold)
    if words is None and not is_mathematical(gold):
        return Outcome.undefined(BAD_REFERENCE)
    segment = extract_answer(text)
    if segment is None:
        return Outcome.undefined(NO_ANSWER)
    answer = final_expression(segment)
    if words is not None:
        return Outcome.of(as_words(answer) == words)
    if not is_mathematical(answer):
        return Outcome.undefined("unparseable answer")
    if TIMES_TEN in gold:
        answer = as_power_of_ten(answer)
    equal = compare_numbers(gold, answer)
    return (gold, answer) if equal is None else Outcome.of(equal)
