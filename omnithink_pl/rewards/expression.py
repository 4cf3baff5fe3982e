"""The mathematical expression in an answer, and a shortcut for plain numbers."""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"([+-]?)(\d{1,18})(?:\.(\d{1,18}))?(?:/(\d{1,18}))?", re.ASCII)
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_WORDS = re.compile(r"[A-Za-z]{3}|^no\b", re.IGNORECASE)
_SYMBOLS = re.compile(r"[\d\\^_+*/=<>(){}|]")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\{([^{}\\]*)\}")
_LETTER = re.compile(r"\(?([A-Z])\)?", re.ASCII)
_PLAIN = re.compile(r"[^\W\d_]+(?:[ ,'-]+[^\W\d_]+)*")
_SCIENTIFIC = re.compile(r"([+-]?\d+(?:\.\d*)?)[eE]([+-]?\d+)", re.ASCII)
TIMES_TEN = r"\times 10^{"
LONGEST, DEEPEST = 1000, 40


def final_expression(text: str) -> str:
    r"""The expression that a text ends in.

    The content of the last ``\boxed{}`` if there is one (several would be merged into a set by
    math-verify), else the only formula between dollar signs, else the whole text; without maths
    delimiters and a final full stop.
    """
    text = _last_boxed(text) or text.strip()
    parts = re.split(r"(?<!\\)\$+", text)
    text = (parts[1] if len(parts) == 3 and parts[1].strip() else text).strip(" \t\n=").rstrip(".").strip()
    for left, right in _DELIMITERS:
        if text.startswith(left) and text.endswith(right) and len(text) > len(left + right):
            text = text[len(left) : -len(right)].strip()
    return text


def as_power_of_ten(text: str) -> str:
    r"""``7e-8`` as ``7 \times 10^{-8}``, and anything else as it is.

    A parser of LaTeX reads ``7e-8`` as seven times Euler's number less eight. So it may be meant: this is only for
    golds that are known to be measurements, and for answers to those.
    """
    match = _SCIENTIFIC.fullmatch(text)
    return f"{match[1]} {TIMES_TEN}{int(match[2])}}}" if match else text


def is_mathematical(text: str) -> bool:
    """Whether ``text`` is worth parsing: not empty, not words, brackets balanced, of a size that results have.

    A parser of LaTeX reads ``No`` as the product of n and o, and thus as equal to ``on``. Time and
    memory of parsing grow out of all bounds with length and depth.
    """
    if not text or len(text) > LONGEST:
        return False
    prose = _WORDS.search(text) is not None and _SYMBOLS.search(text) is None
    return not prose and _balanced(text)


def as_words(text: str) -> str | None:
    r"""What is to be compared as text, in lower case; ``None`` for mathematics.

    That is one capital letter, as of an option, with or without parentheses, and plain words; both
    with or without ``\text{}``. A small letter is a variable.
    """
    inner = _TEXT.fullmatch(text)
    plain = " ".join((inner[1] if inner else text).split()).rstrip(".")
    letter = _LETTER.fullmatch(plain)
    if letter:
        return letter[1].lower()
    words = len(plain) <= LONGEST and (inner or _WORDS.search(plain)) and _PLAIN.fullmatch(plain)
    return plain.lower() if words else None


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
    opened: list[tuple[int, bool]] = []
    last = (-1, -1)
    for match in re.finditer(r"\\boxed\{|[{}]", text):
        if match[0] != "}":
            opened.append((match.end(), match[0] != "{"))
        elif opened:
            start, boxed = opened.pop()
            if boxed and start > last[0]:
                last = (start, match.start())
    return text[slice(*last)].strip() if last[0] >= 0 else ""


def _balanced(text: str) -> bool:
    """Whether braces balance, and no brackets of any kind are nested too deep."""
    braces, depth = 0, 0
    for bracket in re.findall(r"(?<!\\)[{}]|[()\[\]]", text):
        step = 1 if bracket in "{([" else -1
        depth = max(0, depth + step)
        braces += step if bracket in "{}" else 0
        if braces < 0 or depth > DEEPEST:
            return False
    return braces == 0
