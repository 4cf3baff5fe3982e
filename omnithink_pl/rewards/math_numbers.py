r"""Exact arithmetic on the tokens of an answer, and LaTeX of what is none, for math-verify."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from omnithink_pl.rewards.math_notation import Token, closing, in_index

_BITS = 1 << 15  # of a numerator; arithmetic with larger ones takes noticeable time
_DEGREES = r"^ { \circ }"


class NotRational(Exception):
    """The tokens are not a rational number that can be written out."""


class Arithmetic:
    r"""Value of tokens that are rational arithmetic: ``2\frac12``, ``(1+2)^{-3}``, ``5!``, ``0.1(6)``."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.place = tokens, 0

    def value(self) -> Fraction:
        """Return the value.

        Raises:
            NotRational: If it is none, or too long.
            ZeroDivisionError: If it divides by zero.
        """
        found = self._sum()
        if self.place < len(self.tokens):
            raise NotRational
        return found

    def _next(self) -> str:
        return self.tokens[self.place].text if self.place < len(self.tokens) else ""

    def _take(self, *texts: str) -> str:
        found = self._next()
        if found in texts:
            self.place += 1
            return found
        return ""

    def _sum(self) -> Fraction:
        total = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            total = _short(total + other if sign == "+" else total - other)
        return total

    def _product(self) -> Fraction:
        total = self._signed()
        while True:
            if operator := self._take(r"\cdot", "/"):
                factor = self._signed()
                total = _short(total * factor if operator == r"\cdot" else total / factor)
            elif self._next() in ("(", "{"):
                total = _short(total * self._power())
            else:
                return total

    def _signed(self) -> Fraction:
        negative = False
        while sign := self._take("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Fraction:
        base = self._atom()
        while self._take("!"):
            if base.denominator != 1 or not 0 <= base <= 1000:
                raise NotRational
            base = _factorial(int(base))
        if not self._take("^"):
            return base
        exponent = self._braced()
        if exponent.denominator != 1:
            raise NotRational
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(base) != 1 and base != 0 and size * abs(exponent) > 2 * _BITS:
            raise NotRational
        return _short(base ** int(exponent % 2 if abs(base) == 1 else exponent))

    def _atom(self) -> Fraction:
        if self.place >= len(self.tokens):
            raise NotRational
        token = self.tokens[self.place]
        if token.kind == "number":
            self.place += 1
            return self._mixed(_number(token.text), "." not in token.text)
        if self._take(r"\frac"):
            numerator = self._braced()
            return _short(numerator / self._braced())
        if self._next() in ("(", "{", "["):
            return self._braced()
        raise NotRational

    def _mixed(self, whole: Fraction, integer: bool) -> Fraction:
        r"""Return ``2\frac12`` or ``2 1/2`` as 5/2; a proper fraction behind a whole number is added to it."""
        rest = self.tokens[self.place : self.place + 7]
        texts = [t.text for t in rest]
        if integer and texts[:1] == [r"\frac"] and [*texts[1:7:2], *texts[6:7]] and len(rest) == 7:
            top, bottom = texts[2], texts[5]
            shape = [texts[1], texts[3], texts[4], texts[6]] == ["{", "}", "{", "}"]
            width = 7
        elif integer and len(rest) > 2 and rest[0].kind == rest[2].kind == "number" and texts[1] == "/":
            (top, _, bottom), shape, width = texts[:3], True, 3
        else:
            return whole
        if not (shape and top.isdecimal() and bottom.isdecimal() and 0 < int(top) < int(bottom)):
            raise NotRational
        self.place += width
        return whole + Fraction(int(top), int(bottom))

    def _braced(self) -> Fraction:
        left = self._take("(", "{", "[")
        value = self._sum() if left else None
        if value is None or not self._take({"(": ")", "{": "}", "[": "]"}[left]):
            raise NotRational
        return value


def _number(text: str) -> Fraction:
    """Return the value of a number's token, such as ``0.1(6)`` or ``2.5e-18``."""
    mantissa, _, period = text.rstrip(")").partition("(")
    if "e" in mantissa and abs(int(mantissa.partition("e")[2])) > _BITS // 8:
        raise NotRational
    value = Fraction(mantissa)
    if period:
        decimals = len(mantissa.partition(".")[2])
        value += Fraction(int(period), 10**decimals * (10 ** len(period) - 1))
    return value


def _factorial(number: int) -> Fraction:
    value = 1
    for factor in range(2, number + 1):
        value *= factor
    return _short(Fraction(value))


def _short(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > _BITS or value.denominator.bit_length() > _BITS:
        raise NotRational
    return value


def last_place(number: str) -> Fraction | None:
    """Return one in the last place of a decimal, ``None`` for whole numbers and repeating decimals."""
    mantissa, _, power = number.partition("e")
    _, point, decimals = mantissa.partition(".")
    if not point or "(" in number or abs(int(power or 0)) > _BITS // 8:
        return None
    return Fraction(10) ** (int(power or 0) - len(decimals))


def plain_fraction(value: Fraction) -> str:
    """Return a value as ``-5 / 2``, empty if it has more digits than Python converts."""
    numerator, denominator = value.as_integer_ratio()
    if max(numerator.bit_length(), denominator.bit_length()) > _BITS // 4:
        return ""
    return f"{numerator} / {denominator}" if denominator > 1 else str(numerator)


def latex(tokens: Sequence[Token]) -> str:
    r"""Return an expression for math-verify; empty where it would be read as something else.

    Its parser reads words as products of letters, ``f'`` as ``f``, and two numbers in a row as one.
    """
    pieces: list[str] = []
    tokens = _differentials(tokens)
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else None
        if token.kind == "word" or token.text in _LETTERS_IN_INDEX:
            if not in_index(tokens, place):
                return ""
            pieces.append(" ".join(token.text.removeprefix("\\")))
        elif token.text in ("'", "%", ".", "&", "?") or (token.kind == "number" and before and before.kind == "number"):
            return ""
        elif token.kind == "number":
            pieces.append(_written_number(token.text))
        else:
            pieces.append(_SPELLINGS.get(token.text, token.text))
    return _degrees(" ".join(pieces))


def _differentials(tokens: Sequence[Token]) -> list[Token]:
    r"""Return tokens in which the quotient of ``\frac{dM}{dt}`` stays one: the derivative of a mere letter is 0."""
    done = list(tokens)
    for place, token in enumerate(done[:-2]):
        if token.text == r"\frac" and done[place + 2].text in ("d", r"\partial"):
            below = place + 4 + (closing(done[place + 2 :]) or 0)
            if below < len(done) and done[below].text == done[place + 2].text:
                done[below], done[place + 2] = Token("command", r"\delta _ { 1 }"), Token("command", r"\delta _ { 2 }")
    return done


_LETTERS_IN_INDEX = (r"\max", r"\min", r"\det", r"\lim")
_SPELLINGS = {r"\lg": r"\log _ { 10 }", r"\cbrt": r"\sqrt [ 3 ]"}


def _degrees(text: str) -> str:
    r"""Return ``\sin 30^\circ`` with the angle in radians."""
    pieces = text.split(_DEGREES)
    for place, piece in enumerate(pieces[:-1]):
        start, _, angle = piece.rstrip().rpartition(" ")
        pieces[place] = f"{start} ( {angle} \\cdot \\frac {{ \\pi }} {{ 180 }} )"
    return " ".join(pieces)


def _written_number(text: str) -> str:
    mantissa, power, exponent = text.partition("e")
    if power:
        return f"{_written_number(mantissa)} \\cdot 10 ^ {{ {exponent} }}"
    if "(" in text:
        value = _number(text)
        return f"\\frac {{ {value.numerator} }} {{ {value.denominator} }}"
    whole, point, decimals = text.partition(".")
    return f"{whole or 0}.{decimals or 0}" if point else whole
