"""Worker process that verifies mathematical answers; started by :mod:`omnithink_pl.rewards.math`.

It runs as a file, imports math-verify and nothing of ours, and answers each line of JSON ``{"questions": [[gold,
answer, tolerance], ...]}`` with a list of the words below, or with "slow". Deadlines are not left to math-verify, whose
alarms turn a timeout into a plain "not equal". An alarm of this process ends most computations and costs nothing more;
the parent kills the process where native code ignores signals; a limit on processor time ends it if the parent died.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import resource
import signal
import sys
import time
from functools import lru_cache
from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify import verify
from sympy import Expr, Float, I, Rational, nan, oo, zoo

BAD_GOLD, BAD_ANSWER, EQUAL, DIFFERENT, SLOW = "bad gold", "bad answer", "equal", "different", "slow"
_CPU_FACTOR = 4  # processor time that the kernel grants, in multiples of the time limit
_CONVERSION = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
_LOGARITHM = re.compile(r"\\log(?! _)")
_DIGITS, _AGREEING = 60, 40
_POINTS = (3, 7)  # where symbols are tried: positive whole numbers, so that roots, logarithms, sums and products exist


class OutOfTime(BaseException):
    """Raised by the alarm; no ``Exception``, because math-verify catches all of those."""


def main(limit: float, memory_mb: int) -> None:
    """Answer jobs, each for ``limit`` seconds at most and in ``memory_mb`` of address space, until input ends."""
    signal.signal(signal.SIGALRM, _ring)
    if sys.platform == "linux":  # other kernels do not have this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    logging.disable(logging.CRITICAL)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # parsers that print must not garble the replies
    judge("x + 1", "1 + x", Rational(0))  # the first answer takes ten times as long, which is not for its limit
    print("ready", file=replies, flush=True)
    os.dup2(1, 2)
    for line in sys.stdin.buffer:
        job = json.loads(line)
        spent = math.ceil(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (spent + math.ceil(_CPU_FACTOR * limit), resource.RLIM_INFINITY))
        print(json.dumps(judge_in_time(job["questions"], limit)), file=replies, flush=True)


def judge_in_time(questions: list[list[str]], limit: float) -> list[str] | str:
    """Answer all questions about one answer; one that exhausts stack or memory is a bad answer."""
    try:
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            return [judge(gold, answer, Rational(tolerance)) for gold, answer, tolerance in questions]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except OutOfTime:
        return SLOW
    except (MemoryError, RecursionError):
        return [BAD_ANSWER] * len(questions)


def judge(gold: str, answer: str, tolerance: Rational) -> str:
    r"""Compare two expressions. ``\log`` without a base is to the base 10 or natural, alike on both sides."""
    if (expected := parse(gold)) is None:
        return BAD_GOLD
    if (found := parse(answer)) is None:
        return BAD_ANSWER
    if same(expected, found, tolerance):
        return EQUAL
    natural = [_LOGARITHM.sub(r"\\ln", text) for text in (gold, answer)]
    return EQUAL if natural != [gold, answer] and same(parse(natural[0]), parse(natural[1]), tolerance) else DIFFERENT


@lru_cache(maxsize=4096)
def parse(text: str) -> Any:
    """Return SymPy's reading of an expression with exact numbers, ``None`` if it has none."""
    try:
        found = latex2sympy(text, is_real=True, normalization_config=None, conversion_config=_CONVERSION)
        exact = {number: Rational(str(number)) for number in found.atoms(Float)}
        return found.xreplace(exact | {symbol: I for symbol in found.free_symbols if symbol.name == "i"})
    except (MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001  (what the parser raises where it does not understand)
        return None


def same(gold: Any, answer: Any, tolerance: Rational) -> bool:
    """Return whether two expressions are equal: numbers by their digits, all others as math-verify says.

    Its verdict of equality holds only if the two agree where their symbols are given numbers: it takes
    ``2^{-60}x`` for 0.
    """
    if any(side.has(nan, zoo, oo) for side in (gold, answer)):
        return bool(gold == answer)
    if isinstance(gold, Expr) and isinstance(answer, Expr):
        symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
        if not symbols and (verdict := _agree(gold, answer, tolerance)) is not None:
            return verdict
        for point in _POINTS:
            values = {symbol: point + place for place, symbol in enumerate(symbols)}
            if _agree(gold.subs(values), answer.subs(values), Rational(0)) is False:
                return False
    return bool(verify(gold, answer, timeout_seconds=None))  # not symmetric: the gold goes first


def _agree(gold: Any, answer: Any, tolerance: Rational) -> bool | None:
    """Return whether two numbers agree in all digits, or up to the tolerance; ``None`` if one has no value."""
    left, right = gold.evalf(_DIGITS), answer.evalf(_DIGITS)
    if not (left.is_number and right.is_number and left.is_finite and right.is_finite):
        return None
    size = max(abs(left), abs(right))
    if size < Float(10) ** -_AGREEING and left != right:  # a sum that cancels has no digits
        return None if left == 0 or right == 0 else bool(abs(left - right) <= size * Float(10) ** -_AGREEING)
    return bool(abs(left - right) <= max(tolerance, size * Float(10, _DIGITS) ** -_AGREEING))


def _ring(number: int, frame: object) -> None:
    raise OutOfTime


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
