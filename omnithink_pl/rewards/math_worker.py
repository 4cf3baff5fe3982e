"""A process that verifies mathematical answers; started by :mod:`omnithink_pl.rewards.math`.

It is run as a file, imports math-verify and nothing of ours, and answers each line of JSON
``{"gold": ..., "answer": ...}`` with one of the words below. Deadlines are not left to math-verify,
whose alarms turn a timeout into a plain "not equal": an alarm of ours ends most computations and
leaves this process as it was; the parent kills it where native code is deaf to that; and should
the parent die, the limit on processor time ends what would never come back to find out.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
import sys
import time
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

BAD_GOLD, BAD_ANSWER, EQUAL, DIFFERENT, SLOW = "bad gold", "bad answer", "equal", "different", "slow"
_PATIENCE = 4  # times the limit, before the kernel steps in
_CONFIG = [LatexExtractionConfig(boxed_match_priority=0)]


class OutOfTime(BaseException):
    """The alarm; no ``Exception``, because math-verify catches all of those."""


def parse_expression(text: str) -> list[Any]:
    """SymPy's idea of an expression; empty if it has none. Prose around a number is not searched."""
    return parse(
        f"\\boxed{{{text}}}",
        _CONFIG,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )


parse_gold = lru_cache(maxsize=4096)(parse_expression)


def judge(gold: str, answer: str) -> str:
    """Compare an answer with its gold; the gold goes first, as ``verify`` is not symmetric."""
    expected = parse_gold(gold)
    if not expected:
        return BAD_GOLD
    found = parse_expression(answer)
    if not found:
        return BAD_ANSWER
    return EQUAL if verify(expected, found, timeout_seconds=None) else DIFFERENT


def judge_in_time(gold: str, answer: str, limit: float) -> str:
    """The same, or ``slow``. An answer that exhausts stack or memory is a bad one."""
    try:
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            return judge(gold, answer)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except OutOfTime:
        return SLOW
    except (MemoryError, RecursionError):
        return BAD_ANSWER


def ring(number: int, frame: object) -> None:
    """What the alarm does."""
    raise OutOfTime


def main(limit: float, memory_mb: int) -> None:
    """Answer jobs until standard input ends.

    Args:
        limit: Seconds after which a job is given up.
        memory_mb: Address space of this process.
    """
    signal.signal(signal.SIGALRM, ring)
    if sys.platform == "linux":  # elsewhere the kernel does not know this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    logging.disable(logging.CRITICAL)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # parsers that print must not garble the replies
    print("ready", file=replies, flush=True)
    os.dup2(1, 2)
    for line in sys.stdin.buffer:
        job = json.loads(line)
        spent = math.ceil(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (spent + math.ceil(_PATIENCE * limit), resource.RLIM_INFINITY))
        verdict = judge_in_time(job["gold"], job["answer"], limit)
        print(json.dumps(verdict), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
