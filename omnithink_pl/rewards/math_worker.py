"""Worker process that verifies mathematical answers; started by :mod:`omnithink_pl.rewards.math`.

It runs as a file, imports math-verify and nothing of ours, and answers each line of JSON ``{"gold": ..., "answer":
...}`` with one of the words below. Deadlines are not left to math-verify, whose alarms turn a timeout into a plain
"not equal". An alarm of this process ends most computations and costs nothing more; the parent kills the process
where native code ignores signals; a limit on processor time ends it if the parent has died.
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
_CPU_FACTOR = 4  # processor time that the kernel grants, in multiples of the time limit
_CONFIG = [LatexExtractionConfig(boxed_match_priority=0)]


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
    print("ready", file=replies, flush=True)
    os.dup2(1, 2)
    for line in sys.stdin.buffer:
        job = json.loads(line)
        spent = math.ceil(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (spent + math.ceil(_CPU_FACTOR * limit), resource.RLIM_INFINITY))
        print(json.dumps(verify_in_time(job["gold"], job["answer"], limit)), file=replies, flush=True)


def verify_in_time(gold: str, answer: str, limit: float) -> str:
    """Compare an answer with its gold; an answer that exhausts stack or memory is a bad one."""
    try:
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            return _verify(gold, answer)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except OutOfTime:
        return SLOW
    except (MemoryError, RecursionError):
        return BAD_ANSWER


def _verify(gold: str, answer: str) -> str:
    expected = _parse_gold(gold)
    if not expected:
        return BAD_GOLD
    found = _parse(answer)
    if not found:
        return BAD_ANSWER
    # Not symmetric: the gold goes first.
    return EQUAL if verify(expected, found, timeout_seconds=None) else DIFFERENT


def _parse(text: str) -> list[Any]:
    """Return SymPy's reading of an expression, empty if it has none; prose around a number is not searched."""
    return parse(
        f"\\boxed{{{text}}}",
        _CONFIG,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )


_parse_gold = lru_cache(maxsize=4096)(_parse)


def _ring(number: int, frame: object) -> None:
    raise OutOfTime


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
