r"""Equality of a gold and an answer: what stands before and after math-verify.

The parts are read in :mod:`~omnithink_pl.rewards.math_reading`. Here is decided what can be decided exactly, and
math-verify is asked only whether two single expressions are equal. The rules, each with its reason:

* Text: the same tokens are equal whatever they mean: ``x\equiv 3\pmod 5`` needs no parser.
* Numbers: exact rationals, never floats: ``\frac{1}{2^{60}}`` is not ``\frac{1}{2^{61}}``. A decimal may be another
  number rounded, from six significant digits on: ``0.333333`` is ``1/3``, ``0.333`` is not.
* Words around a number are its unit or nothing: ``18 dollars`` is 18. Two units must agree: ``5 km`` is not ``5 m``. A
  scale word is part of the number: ``80 million`` is not 80. A word that makes another number
  (``half``, ``not``, ``than``) makes it unreadable.
* Bounds and denials state no number: ``> 5``, ``5 is wrong``, ``isn't 5``.
* Options: ``(B) 42`` is ``B`` and 42; where both sides have letter and text, both count.
* Domains may be added, not left out: ``2n-1, n \in \mathbb{N}`` is ``2n-1``.
* Percent: ``50\%`` is 50 and ``1/2``, as in the normaliser of MATH.
* Containers: tuples and intervals have an order and their brackets, sets neither order nor repetitions, lists no order
  but repetitions: ``16,3,1,1`` is not ``16,3,1``, and ``(2,4)`` is not ``\{2,4\}``.
* Relations: ``x = 18`` is 18 where the left side is a name; other sides must be equal to the last: ``9+9=18``, but not
  ``0=18``. An inequality in one name is an interval: ``1<x<2`` is ``(1,2)``; the gold ``(1,2)`` may be a point and is
  no inequality.
* Infinity, number bases and what divides by zero are equal to their own text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from omnithink_pl.rewards.math_notation import tokenize
from omnithink_pl.rewards.math_reading import (
    Leaf,
    Modular,
    Option,
    Parts,
    Reading,
    Relation,
    Time,
    Words,
    domain_at,
    read,
    text_of,
)

Ask: TypeAlias = Callable[[str, str, Fraction], bool | None]
"""Says whether two expressions are equal, up to a difference; ``None`` if that is not known yet."""

# Significant digits from which a decimal may be another number rounded; more are wanted where that is a decimal too.
_ROUNDED, _ROUNDED_DECIMAL = 6, 10
_AMBIGUOUS = re.compile(r"\d,\d{3}|\de[+-]\d")


def compare(gold: str, answer: str, ask: Ask) -> bool | None:
    r"""Return whether an answer equals its gold; ``None`` if that depends on an expression that ``ask`` does not know.

    ``1,234`` is a number and ``2e-1`` is 0.2; where that makes them different, they are also tried as a list and as
    twice Euler's number less 1.
    """
    readings = (False, True) if _AMBIGUOUS.search(f"{gold} {answer}") else (False,)
    return some(_compare(gold, answer, ask, literal) for literal in readings)


def _compare(gold: str, answer: str, ask: Ask, literal: bool) -> bool | None:
    expected = tokenize(gold, literal=literal)
    variables = {token.text for token in expected if token.kind == "name"}
    found = tokenize(answer, variables, literal)
    place = domain_at(expected)
    if place is None or expected[place].text in ("for", r"\forall"):  # else the answer has to name the domain, too
        expected, found = (tokens[: domain_at(tokens)] for tokens in (expected, found))
    return text_of(expected) == text_of(found) or equal(read(expected), read(found), ask)


def is_readable(text: str, gold: str) -> bool:
    """Return whether every part of an expression can be read; words can where the gold is words, too."""
    return _readable(read(tokenize(text)), words=isinstance(read(tokenize(gold)), Words))


def _readable(reading: Reading, words: bool) -> bool:
    match reading:
        case Leaf():
            return bool(reading.text)
        case Words():
            return words
        case Option(content=content):
            return _readable(content, words)
        case Parts(items=items) | Relation(sides=items):
            return all(_readable(item, words=True) for item in items)
        case _:
            return True


def equal(gold: Reading, answer: Reading, ask: Ask) -> bool | None:
    """Return whether two readings are equal; ``None`` if that depends on an expression that ``ask`` does not know."""
    match gold, answer:
        case Option(), Option():
            return every([gold.letter == answer.letter, equal(gold.content, answer.content, ask)])
        case (Option(letter=letter), Words(text=text)) | (Words(text=text), Option(letter=letter)):
            return letter == text
        case Option(), _:
            return equal(gold.content, answer, ask)
        case _, Option():
            return equal(gold, answer.content, ask)
        case Relation(), Relation():
            return _relations(gold, answer, ask)
        case _, Relation():
            value = answer.sides[-1] if answer.names[0] and set(answer.operators) == {"="} else answer.assigned
            if value is None:
                return False
            others = (side for side, name in zip(answer.sides[:-1], answer.names, strict=False) if not name)
            return every([equal(gold, value, ask), *(equal(value, other, ask) for other in others)])
        case Relation(), _:
            return False if gold.assigned is None else equal(gold.assigned, answer, ask)
        case Parts(kind="set", items=(only,)), Leaf():
            return equal(only, answer, ask)
        case Leaf(), Parts(kind="set", items=(only,)):
            return equal(gold, only, ask)
        case Leaf(), Leaf():
            return _leaves(gold, answer, ask)
        case Parts(), Parts():
            return _parts(gold, answer, ask)
        case Words(), Words():
            return gold.text.casefold() == answer.text.casefold()
        case Time(), Time():
            return _times(gold, answer)
        case Modular(), Modular():
            if gold.name and answer.name and gold.name != answer.name:
                return False
            return every([equal(gold.modulus, answer.modulus, ask), equal(gold.residue, answer.residue, ask)])
        case (Words(text=words), Leaf(text=text)) | (Leaf(text=text), Words(text=words)) if len(words) > 1:
            return words.casefold() == text.replace(" ", "").casefold()  # odd, if it is no \\text
        case _:
            return False


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether all verdicts are true; ``None`` if that is not known yet. All are drawn, so that all is asked."""
    known = list(verdicts)
    return False if False in known else None if None in known else True


def some(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether any verdict is true; ``None`` if that is not known yet."""
    known = list(verdicts)
    return True if True in known else None if None in known else False


def _relations(gold: Relation, answer: Relation, ask: Ask) -> bool | None:
    """Compare equations: what the same name equals, or side by side, or as math-verify does."""
    left, right = gold.assigned, answer.assigned
    if left is not None and right is not None and gold.names[0] and answer.names[0]:
        return equal(left, right, ask) if _same_name(gold.names[0], answer.names[0]) else False
    if len(gold.sides) == len(answer.sides) and gold.operators == answer.operators:
        sides = every(equal(*pair, ask) for pair in zip(gold.sides, answer.sides, strict=True))
        two = len(gold.sides) == 2 and gold.text and answer.text
        return some([sides, ask(gold.text, answer.text, Fraction(0)) if two else False])
    return False


def _same_name(gold: str, answer: str) -> bool:
    """Return whether two names are the same; the argument of a function may be left out: ``y`` for ``y(x)``."""
    shorter, longer = sorted((gold, answer), key=len)
    return gold == answer or longer.startswith(f"{shorter} (")


def _parts(gold: Parts, answer: Parts, ask: Ask) -> bool | None:
    r"""Compare containers.

    A list stands for a set and for a tuple without its brackets: ``1 and 5`` for ``\{1,5\}``, ``1, 5`` for ``(1,5)``.
    """
    names = [parts.name or (parts.names[0] if len(parts.names) == 1 else "") for parts in (gold, answer)]
    if all(names) and names[0] != names[1]:
        return False
    if answer.name and not all(names) and gold.kind == "()" and not any(map(_infinite, gold.items)):
        return False  # a point or an interval: an inequality has not chosen the point
    kinds = {gold.kind, answer.kind}
    if kinds == {"set"}:
        there = (some(equal(item, other, ask) for other in answer.items) for item in gold.items)
        back = (some(equal(other, item, ask) for other in gold.items) for item in answer.items)
        return every([*there, *back])
    if kinds in ({"list"}, {"union"}, {"cases"}, {"list", "set"}):
        return _matched(gold.items, answer.items, ask)
    if gold.kind == "list" and len({name.partition(" _ ")[0] for name in answer.names}) == 1:
        return _matched(gold.items, answer.items, ask)  # x_1 = 2, x_2 = 3
    if len(kinds) == 1 or kinds == {"list", "()"}:
        if len(gold.items) != len(answer.items):
            return False
        items, wanted, given = answer.items, _names(gold), _names(answer)
        if all(wanted) and all(given):
            if sorted(wanted) != sorted(given):
                return False
            items = tuple(items[given.index(name)] for name in wanted)
        return every(equal(*pair, ask) for pair in zip(gold.items, items, strict=True))
    return False


def _names(parts: Parts) -> tuple[str, ...]:
    """Return what is assigned to: ``x, y`` for ``x=1, y=2``, with an empty text for an item without a name."""
    if len(parts.names) == len(parts.items):
        return parts.names
    return tuple(item.names[0] if isinstance(item, Relation) else "" for item in parts.items)


def _infinite(item: Reading) -> bool:
    return isinstance(item, Leaf) and item.literal and item.text.endswith(r"\infty")


def _matched(golds: Sequence[Reading], answers: Sequence[Reading], ask: Ask) -> bool | None:
    """Return whether each gold has an answer of its own, in any order."""
    if len(golds) != len(answers):
        return False
    left, known = list(answers), True
    for gold in golds:
        verdicts = [equal(gold, answer, ask) for answer in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            known = False
        else:
            return False
    return True if known else None


def _times(gold: Time, answer: Time) -> bool:
    """Compare times of day; ``7:15`` may be either half of the day, ``19:15`` is ``7:15 p.m.``."""
    if gold.minute != answer.minute:
        return False
    if bool(gold.half) == bool(answer.half):
        return (gold.hour, gold.half) == (answer.hour, answer.half)
    half, plain = (gold, answer) if gold.half else (answer, gold)
    return plain.hour in (half.hour, half.hour % 12 + (12 if half.half == "p" else 0))


def _leaves(gold: Leaf, answer: Leaf, ask: Ask) -> bool | None:
    """Compare single expressions, exactly where both are rational."""
    if not gold.text or not answer.text or (gold.unit and answer.unit and gold.unit != answer.unit):
        return False
    if gold.lead and gold.lead != answer.lead:
        return False  # June 20 is not 20
    if gold.literal or answer.literal:
        return gold.text == answer.text
    if gold.value is not None and answer.value is not None:
        if gold.percent == answer.percent:
            return same_number(gold.value, gold.step, answer.value, answer.step)
        shares = (100, 1) if gold.percent else (1, 100)
        pairs = ((1, 1), shares)  # 50% is 50 and 1/2
        return any(
            same_number(gold.value / left, _part(gold.step, left), answer.value / right, _part(answer.step, right))
            for left, right in pairs
        )
    if (gold.value is not None and gold.step is None) or (answer.value is not None and answer.step is None):
        return ask(gold.text, answer.text, Fraction(0))
    tolerance = max((_rounding(leaf.value, leaf.step, _ROUNDED) for leaf in (gold, answer)), default=Fraction(0))
    return ask(gold.text, answer.text, tolerance)


def _part(step: Fraction | None, divisor: int) -> Fraction | None:
    return step and step / divisor


def same_number(gold: Fraction, gold_step: Fraction | None, answer: Fraction, answer_step: Fraction | None) -> bool:
    """Return whether two rational numbers are equal, or one is a decimal that is the other one rounded."""
    digits = _ROUNDED_DECIMAL if gold_step and answer_step else _ROUNDED
    allowed = max(_rounding(gold, gold_step, digits), _rounding(answer, answer_step, digits))
    return abs(gold - answer) <= allowed


def _rounding(value: Fraction | None, step: Fraction | None, digits: int) -> Fraction:
    """Return half of a decimal's last place, 0 where it has less than ``digits`` significant digits."""
    return step / 2 if value is not None and step and abs(value) >= step * 10 ** (digits - 1) else Fraction(0)
