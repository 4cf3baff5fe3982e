"""The math reward: exact rules for numbers and words, math-verify in worker processes for everything else."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from importlib.resources import files
from typing import final

from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.base import BAD_REFERENCE, NO_ANSWER, OutcomeCache, Reward, score_jobs
from omnithink_pl.rewards.format import extract_answer
from omnithink_pl.sandbox.workers import Lost, WorkerPool
from omnithink_pl.types import Example, Group, Outcome

# Time and memory of parsing grow without bound with length and nesting; results are shorter and flatter.
LONGEST, DEEPEST = 1000, 40
_MEMORY_MB = 1024
# Shares of the time limit. A job whose worker dies has a second attempt: two together keep to the limit. The worker's
# own alarm rings before an attempt is over, and costs no worker.
_ATTEMPT, _ALARM = 0.5, 0.4
_BAD_ANSWER = Outcome.undefined("unparseable answer")
_TOO_SLOW = Outcome.undefined("verification timed out")
_OUTCOMES = {
    "equal": Outcome.of(1.0),
    "different": Outcome.of(0.0),
    "bad gold": Outcome.undefined(BAD_REFERENCE),
    "bad answer": _BAD_ANSWER,
    "slow": _TOO_SLOW,
    Lost.TIMEOUT: _TOO_SLOW,
    Lost.DIED: Outcome.failed("verifier died"),
}

TIMES_TEN = r"\times 10^{"
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_NUMBER = re.compile(r"([+-]?)(\d{1,18})(?:\.(\d{1,18}))?(?:/(\d{1,18}))?", re.ASCII)
_SCIENTIFIC = re.compile(r"([+-]?\d+(?:\.\d*)?)[eE]([+-]?\d+)", re.ASCII)
_WORDS = re.compile(r"[A-Za-z]{3}|^no\b", re.IGNORECASE)
_SYMBOLS = re.compile(r"[\d\\^_+*/=<>(){}|]")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\{([^{}\\]*)\}")
_OPTION_LETTER = re.compile(r"\(?([A-Z])\)?", re.ASCII)
_PLAIN_WORDS = re.compile(r"[^\W\d_]+(?:[ ,'-]+[^\W\d_]+)*")


@final
class MathReward(Reward):
    r"""1 where math-verify finds the answer equal to the gold, else 0 (the paper, section 4.4).

    The expression is taken from the answer segment: its last ``\boxed{}``, its only formula, or all of it. Undefined
    without an answer segment, where answer or gold do not parse or are longer or nested deeper than any result, and
    where verifying takes too long; failed where the verifier died twice.

    A gold that is an option's letter or words, such as ``B``, ``\text{even}`` or ``No``, is compared as text, without
    case. Plain numbers are compared exactly. Everything else is verified in worker processes, each distinct (gold,
    answer) pair once; verdicts are cached.

    Known leniencies and asymmetries of math-verify, kept because scores elsewhere have them: gold ``50`` accepts
    ``50\%``; gold ``(1,2)`` refuses ``1<x<2``, though gold ``1<x<2`` accepts ``(1,2)``; ``0.333`` is not ``1/3``;
    ``90^\circ`` is not ``\pi/2``; units are ignored.

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
        jobs = [{"gold": gold, "answer": answer} for gold, answer in pairs]
        return [_OUTCOMES[reply] for reply in self._pool.map(jobs, _ATTEMPT * self.timeout)]


def _pair(example: Example, text: str) -> tuple[str, str] | Outcome:
    """Return the (gold, answer) pair to verify, or the outcome where a rule decides."""
    if not isinstance(example.reference, str):
        raise TypeError(f"{example.uid}: a math reference is text, not {type(example.reference).__name__}")
    gold = final_expression(example.reference)
    words = as_words(gold)
    if words is None and not is_mathematical(gold):
        return Outcome.undefined(BAD_REFERENCE)
    if (segment := extract_answer(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    answer = final_expression(segment)
    if words is not None:
        return Outcome.of(as_words(answer) == words)
    if not is_mathematical(answer):
        return _BAD_ANSWER
    if TIMES_TEN in gold:
        answer = as_power_of_ten(answer)
    equal = compare_numbers(gold, answer)
    return (gold, answer) if equal is None else Outcome.of(equal)


def final_expression(text: str) -> str:
    r"""Return the expression that a text ends in, without maths delimiters and a final full stop.

    It is the content of the last ``\boxed{}`` if there is one (math-verify would merge several into a set), else the
    only formula between dollar signs, else the whole text.
    """
    text = _last_boxed(text) or text.strip()
    parts = re.split(r"(?<!\\)\$+", text)
    text = (parts[1] if len(parts) == 3 and parts[1].strip() else text).strip(" \t\n=").rstrip(".").strip()
    for left, right in _DELIMITERS:
        if text.startswith(left) and text.endswith(right) and len(text) > len(left + right):
            text = text[len(left) : -len(right)].strip()
    return text


def _last_boxed(text: str) -> str:
    r"""Return the content of the last ``\boxed{}`` whose braces balance; empty if there is none."""
    opened: list[tuple[int, bool]] = []  # where the content begins, and whether it is boxed
    last = (-1, -1)
    for match in re.finditer(r"\\boxed\{|[{}]", text):
        if match[0] != "}":
            opened.append((match.end(), match[0] != "{"))
        elif opened:
            start, boxed = opened.pop()
            if boxed and start > last[0]:
                last = (start, match.start())
    return text[slice(*last)].strip() if last[0] >= 0 else ""


def as_words(text: str) -> str | None:
    r"""Return what is to be compared as text, in lower case; ``None`` for mathematics.

    Text is one capital letter, as of an option, with or without parentheses, and plain words; both with or without
    ``\text{}``. A small letter is a variable.
    """
    inner = _TEXT_COMMAND.fullmatch(text)
    plain = " ".join((inner[1] if inner else text).split()).rstrip(".")
    letter = _OPTION_LETTER.fullmatch(plain)
    if letter:
        return letter[1].lower()
    words = len(plain) <= LONGEST and (inner or _WORDS.search(plain)) and _PLAIN_WORDS.fullmatch(plain)
    return plain.lower() if words else None


def is_mathematical(text: str) -> bool:
    """Return whether ``text`` can be parsed: not empty, not words, braces balanced, within the limits of size.

    Words are refused because a LaTeX parser reads ``No`` as the product of n and o, equal to ``on``.
    """
    if not text or len(text) > LONGEST:
        return False
    return _balanced(text) and (_WORDS.search(text) is None or _SYMBOLS.search(text) is not None)


def _balanced(text: str) -> bool:
    """Return whether braces balance, and no brackets of any kind are nested deeper than ``DEEPEST``."""
    braces, depth = 0, 0
    for bracket in re.findall(r"(?<!\\)[{}]|[()\[\]]", text):
        step = 1 if bracket in "{([" else -1
        depth = max(0, depth + step)  # round and square brackets need not match: intervals such as [0,1)
        braces += step if bracket in "{}" else 0
        if braces < 0 or depth > DEEPEST:
            return False
    return braces == 0


def as_power_of_ten(text: str) -> str:
    r"""Return ``7e-8`` as ``7 \times 10^{-8}``, and anything else unchanged.

    A LaTeX parser reads ``7e-8`` as seven times Euler's number less eight, which may be meant: use this only for
    golds that are known to be measurements, and for answers to those.
    """
    match = _SCIENTIFIC.fullmatch(text)
    return f"{match[1]} {TIMES_TEN}{int(match[2])}}}" if match else text


def compare_numbers(gold: str, answer: str) -> bool | None:
    """Return whether two plain numbers are equal, exactly; ``None`` where a parser has to decide.

    Plain numbers are integers, fractions of integers and terminating decimals. The parser rounds decimals that differ.
    """
    left, right = _number(gold), _number(answer)
    if left is None or right is None:
        return None
    if left == right:
        return True
    return None if "." in gold + answer else False


def _number(text: str) -> Fraction | None:
    match = _NUMBER.fullmatch(text)
    if match is None or (match[3] and match[4]) or (match[4] and int(match[4]) == 0):
        return None
    return Fraction(text)
