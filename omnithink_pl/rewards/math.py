"""The math reward: exact rules for what they can decide, math-verify in worker processes for expressions."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from importlib.resources import files
from typing import TypeAlias, final

from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.base import BAD_REFERENCE, NO_ANSWER, OutcomeCache, Reward, score_jobs
from omnithink_pl.rewards.format import extract_answer
from omnithink_pl.rewards.math_equality import compare, is_readable
from omnithink_pl.rewards.math_notation import final_expression
from omnithink_pl.sandbox.workers import Lost, WorkerPool
from omnithink_pl.types import Example, Group, Outcome

# Time and memory of parsing grow without bound with length and nesting; results are shorter and flatter.
LONGEST, DEEPEST = 1000, 40
_MEMORY_MB = 1024
# Shares of the time limit. A job whose worker dies has a second attempt: two together keep to the limit. The worker's
# own alarm rings before an attempt is over, and costs no worker.
_ATTEMPT, _ALARM = 0.5, 0.4
_MOST_QUESTIONS = 200  # that one answer may put to math-verify
_BAD_ANSWER = Outcome.undefined("unparseable answer")
_TOO_SLOW = Outcome.undefined("verification timed out")
_LOST = {"slow": _TOO_SLOW, Lost.TIMEOUT: _TOO_SLOW, Lost.DIED: Outcome.failed("verifier died")}

Question: TypeAlias = tuple[str, str, str]
"""Two expressions and the difference that they may have."""


@final
class MathReward(Reward):
    r"""1 where the answer equals the gold, else 0 (the paper, section 4.4).

    The expression is taken from the answer segment: its last ``\boxed{}``, what follows "the answer is", its only
    formula, or all of it. Undefined without an answer segment, where answer or gold cannot be read or are longer or
    nested deeper than any result, and where verifying takes too long; failed where the verifier died twice.

    The rules are those of :mod:`~omnithink_pl.rewards.math_equality`. Single expressions that are no rational numbers
    are verified by math-verify in worker processes, each distinct (gold, answer) pair once; verdicts are cached.

    Args:
        workers: Processes that verify; they start when first needed.
        timeout: Seconds that one answer may take; a process that does not return is killed and replaced.
    """

    name = "math"
    awaits = "group"

    def __init__(self, workers: int = 1, timeout: float = 5.0) -> None:
        if timeout <= 0:
            raise BadInput(f"timeout: {timeout} seconds is too short; use more than 0")
        self.timeout = timeout
        # Run as a file and with -P: beside it lie a math.py and a code.py that would shadow Python's own.
        worker = str(files("omnithink_pl.rewards") / "math_worker.py")
        self._pool = WorkerPool([sys.executable, "-P", worker, str(_ALARM * timeout), str(_MEMORY_MB)], workers)
        self._cache: OutcomeCache[tuple[str, str]] = OutcomeCache()

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order."""
        return score_jobs(groups, _pair, partial(self._cache.look_up, compute=self._verify))

    def close(self) -> None:
        """End the worker processes. Safe to call twice."""
        self._pool.close()

    def _verify(self, pairs: list[tuple[str, str]]) -> list[Outcome]:
        """Return an outcome per pair, after one round of questions to the workers."""
        questions = [_questions(*pair) for pair in pairs]
        asked = [listed for listed in questions if 0 < len(listed) <= _MOST_QUESTIONS]
        replies = iter(
            self._pool.map([{"questions": listed} for listed in asked], _ATTEMPT * self.timeout) if asked else ()
        )
        outcomes = []
        for pair, listed in zip(pairs, questions, strict=True):
            if len(listed) > _MOST_QUESTIONS:
                outcomes.append(_BAD_ANSWER)
            else:
                reply = next(replies) if listed else []
                lost = _LOST[reply] if isinstance(reply, str) else None
                outcomes.append(lost or _outcome(*pair, dict(zip(listed, reply, strict=True))))
        return outcomes


def _pair(example: Example, text: str) -> tuple[str, str] | Outcome:
    """Return the (gold, answer) pair to verify, or the outcome where a rule decides."""
    if not isinstance(example.reference, str):
        raise TypeError(f"{example.uid}: a math reference is text, not {type(example.reference).__name__}")
    if not (gold := final_expression(example.reference)):
        return Outcome.undefined(f"{BAD_REFERENCE}: empty")
    if (segment := extract_answer(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    answer = final_expression(segment)
    if answer == gold:
        return Outcome.of(1.0)
    if flaw := _flaw(gold):
        return Outcome.undefined(f"{BAD_REFERENCE}: {flaw}")
    return (gold, answer) if answer and not _flaw(answer) else _BAD_ANSWER


def _flaw(text: str) -> str:
    """Return why an expression is not even read, empty if it is: its length, its braces, or its nesting."""
    if len(text) > LONGEST:
        return f"longer than {LONGEST} characters"
    braces, depth = 0, 0
    for bracket in re.findall(r"(?<!\\)[{}]|[()\[\]]", text):
        step = 1 if bracket in "{([" else -1
        depth = max(0, depth + step)  # round and square brackets need not match: intervals such as [0,1)
        braces += step if bracket in "{}" else 0
        if braces < 0 or depth > DEEPEST:
            return "braces do not match" if braces < 0 else f"nested deeper than {DEEPEST}"
    return "braces do not match" if braces else ""


def _questions(gold: str, answer: str) -> list[Question]:
    """Return what math-verify has to say before a pair can be decided."""
    asked: dict[Question, None] = {}

    def ask(left: str, right: str, tolerance: Fraction) -> None:
        asked[left, right, str(tolerance)] = None

    return list(asked) if compare(gold, answer, ask) is None else []


def _outcome(gold: str, answer: str, replies: dict[Question, str]) -> Outcome:
    """Return the outcome of a pair, given the replies to its questions."""

    def ask(left: str, right: str, tolerance: Fraction) -> bool | None:
        reply = replies.get((left, right, str(tolerance)))
        return None if reply is None else reply == "equal"

    if compare(gold, answer, ask):
        return Outcome.of(1.0)
    if "bad gold" in replies.values() or not is_readable(gold, gold):
        return Outcome.undefined(f"{BAD_REFERENCE}: cannot be read")
    if "bad answer" in replies.values() or not is_readable(answer, gold):
        return _BAD_ANSWER
    return Outcome.of(0.0)
