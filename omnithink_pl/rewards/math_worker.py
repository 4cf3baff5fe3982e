"""A process that verifies mathematical answers; started by :mod:`omnithink_pl.rewards.math`.

It is run as a file, imports math-verify and nothing of ours, and answers each line of JSON
``{"gold": ..., "answer": ...}`` with one of the words below. Deadlines are its parent's business
and not math-verify's, whose alarms turn a timeout into a plain "not equal". Should the parent die,
the kernel's alarm clock ends a computation that would never come back to find out.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

BAD_GOLD, BAD_ANSWER, EQUAL, DIFFERENT = "bad gold", "bad answer", "equal", "different"
_CONFIG = [LatexExtractionConfig(boxed_match_priority=0)]


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


def main(limit: float, memory_mb: int) -> None:
    """Answer jobs until standard input ends.

    Args:
        limit: Seconds after which a job is given up, should the parent not have done so.
        memory_mb: Address space of this process.
    """
    if sys.platform == "linux":  # elsewhere the kernel does not know this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    logging.disable(logging.CRITICAL)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # parsers that print must not garble the replies
    print("ready", file=replies, flush=True)
    os.dup2(1, 2)
    for line in sys.stdin.buffer:
        job = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, limit)
        verdict = judge(job["gold"], job["answer"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(verdict), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
