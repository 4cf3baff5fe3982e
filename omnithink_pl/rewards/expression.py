"""The mathematical expression in an answer, and a shortcut for plain numbers."""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"([+-]?)(\d{1,18})(?:\.(\d{1,18}))?(?:/(\d{1,18}))?", re.ASCII)
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_WORDS = re.compile(r"[A-Za-z]{3}|^no\b", re.IGNORECASE)
_SYMBOLS = re.compile(r"[\d\\^_+*/=<>(){}|]")


def final_expression(text: str) -> str:
    r"""The expression that a text ends in.

    The content of the last ``\boxed{}`` if there is one (several would be merged into a set by
    math-verify), else the only formula between dollar signs, else the whole text; without maths
    delimiters and a final full stop.
    """
    text = _last_boxed(text) or text.strip()
    formulas = re.findall(r"(?<!\\)\$+([^$]+?)(?<!\\)\$+", text)
    text = (formulas[0] if len(formulas) == 1 else text).strip(" \t\n=").rstrip(".").strip()
    for left, right in _DELIMITERS:
        if text.startswith(left) and text.endswith(right) and len(text) > len(left + right):
            text = text[len(left) : -len(right)].strip()
    return text


def is_mathematical(text: str) -> bool:
    """Whether ``text`` is worth parsing: not empty, not words, braces balanced.

    A parser of LaTeX reads ``No`` as the product of n and o, and thus as equal to ``on``.
    """
    prose = _WORDS.search(text) is not None and _SYMBOLS.search(text) is None
    return bool(text) and not prose and _balanced(text)


def compare_numbers(gold: str, answer: str) -> bool | None:
    """Whether two plain numbers are equal, exactly; ``None`` where a parser has to say.

    Plain numbers are integers, fractions of integers and terminating decimals. Decimals that
    differ are left to the parser, which rounds.
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


def _last_boxed(text: str) -> str:
    r"""Content of the last ``\boxed{}`` whose braces balance; empty if there is none."""
    start = text.rfind(r"\boxed{")
    while start >= 0:
        depth = 0
        for end in range(start + len(r"\boxed"), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[start + len(r"\boxed{") : end].strip()
        start = text.rfind(r"\boxed{", 0, start)
    return ""


def _balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0
