r"""Reading of the tokens of an answer: containers, relations, times and numbers with their units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from omnithink_pl.rewards.math_notation import GREEK, LBRACE, RBRACE, Token, closing, in_index, is_unit
from omnithink_pl.rewards.math_numbers import Arithmetic, NotRational, last_place, latex, plain_fraction

_MOST_PARTS = 64  # of a container: comparing without order takes the square of it
_TURNED = {">": "<", r"\ge": r"\le"}
_RELATIONS = {"=", r"\approx", r"\ne", r"\in", r"\equiv", ":", "<", r"\le", *_TURNED}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_LEAD = frozenset(
    """
so thus hence therefore then finally the answer final result yes we get in total all altogether overall
""".split()  # noqa: SIM905  (a column of words would be half a page)
)
# Words that take back what they stand beside.
_DENYING = frozenset({"not", "no", "never", "neither", "nor", "cannot", "wrong", "incorrect", "false"})
_SAID = ("=", r"\approx", ":", r"\equiv")
_OPTION = (Token("word", "option"), Token("word", "choice"))
_OPTION_LETTERS = ("A", "B", "C", "D", "E", "F")
_DOMAINS = (r"\in", "^", "_", "{", "}", ")", "+", "-", "*", r"\cdot")
_ANGLED = (r"\sin", r"\cos", r"\tan", r"\cot", r"\sec", r"\csc")
_DEGREES = [Token("operator", "^"), LBRACE, Token("command", r"\circ"), RBRACE]
_IN_UNITS = ("/", "^", "{", "}", "-", r"\cdot")
_PAIRS = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\langle": r"\rangle"}
_MATRICES = {"matrix", "pmatrix", "bmatrix", "cases", "array", "aligned", "align", "gathered"}
# What makes a side more than the name of a result.
_NOT_IN_NAMES = r"^ ! % \sqrt \pi \infty \emptyset \pm \ln \log \sin \cos \tan"
# Words that make another number of the one beside them.
_CHANGING = _DENYING | frozenset(
    """
than least most over under above below between half halves third thirds quarter quarters fourth
fourths fifth fifths sixth sixths eighth eighths tenth tenths hundredth hundredths thousandth thousandths millionth
millionths twice double triple minus negative plus point except without through out lakh crore score but none
beyond nearly almost gross bn one two three four five six seven eight nine ten
""".split()  # noqa: SIM905  (a column of words would be a page)
)
# Names of a unit; the first is the one that is compared.
_UNITS = """
km kilometer kilometre, cm centimeter centimetre, mm millimeter millimetre, m meter metre, in inch inche, ft foot feet,
yd yard, mi mile, lb pound, oz ounce, kg kilogram Kg KG, g gram gm, mg milligram, L liter litre l, mL milliliter ml,
h hour hr, min minute, s second sec, day, week, month, year yr, dollar usd buck, cent, degree deg, rad radian,
J joule, W watt, N newton, V volt, A ampere amp, / per, 2 square squared sq, 3 cubic cubed cu
"""
_RATES = {"mph": ("mi", "/", "h"), "kph": ("km", "/", "h"), "kmh": ("km", "/", "h")}
_SAME_UNIT = {name: names.split()[0] for names in _UNITS.split(",") for name in names.split()}


@dataclass(frozen=True)
class Leaf:
    """A single expression: its LaTeX (empty if it cannot be read), its value if it is rational, its unit."""

    text: str
    value: Fraction | None = None
    step: Fraction | None = None  # of a decimal: one in its last place
    percent: bool = False
    unit: tuple[str, ...] = ()
    lead: tuple[str, ...] = ()  # words before it
    literal: bool = False  # equal to its own text alone


@dataclass(frozen=True)
class Words:
    """Text, such as ``even`` or an option's letter."""

    text: str


@dataclass(frozen=True)
class Time:
    """A time of day; ``half`` is ``a``, ``p`` or empty."""

    hour: int
    minute: str
    half: str


@dataclass(frozen=True)
class Parts:
    r"""Several readings. ``kind`` is ``list``, ``set``, ``union``, ``ratio``, ``cases``, ``matrix``, or the brackets.

    ``name`` is the variable of an inequality, which is read as an interval, ``names`` those of assignments.
    """

    kind: str
    items: tuple[Reading, ...]
    name: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relation:
    """Sides and the relations between them. ``names`` has the text of each side that is a name, else an empty one."""

    operators: tuple[str, ...]
    sides: tuple[Reading, ...]
    names: tuple[str, ...]
    text: str

    @property
    def assigned(self) -> Reading | None:
        """Return what a name equals, the last side of ``x = 18``, ``9+9 = 18``; ``None`` in ``x^2 = 1``, ``m = n``."""
        if set(self.operators) != {"="} or (self.names[-1] and "(" not in self.names[0]):
            return None
        first = self.sides[0]
        numeric = isinstance(first, Leaf) and first.value is not None
        return self.sides[-1] if self.names[0] or numeric else None


@dataclass(frozen=True)
class Option:
    """An option's letter and its text: ``(B) 42``."""

    letter: str
    content: Reading


@dataclass(frozen=True)
class Modular:
    """A residue and its modulus, and what leaves it, if that is said."""

    residue: Reading
    modulus: Reading
    name: str = ""


Reading: TypeAlias = Leaf | Words | Time | Parts | Relation | Modular | Option


def text_of(tokens: Iterable[Token]) -> str:
    """Return tokens as LaTeX."""
    return " ".join(token.text for token in tokens)


def read(tokens: Sequence[Token]) -> Reading:
    """Return the reading of a whole answer."""
    tokens = _stripped(tokens)
    if verdict := _verdict(tokens):
        return Words(verdict)
    if option := _option(tokens):
        return option
    tokens = _only_sentence(tokens)
    while len(tokens) > 1 and tokens[0] in _OPTION:
        tokens = tokens[1:]
    letters = [t for t in tokens if t.text not in ("(", ")", "{", "}", ".")]
    if len(letters) == 1 and letters[0].kind == "name" and letters[0].text.isupper():
        return Words(letters[0].text)
    if tokens and all(t.kind == "word" or t.text in ("-", "'", ",") for t in tokens):
        return Words(text_of(t for t in tokens if t.text != ","))
    pieces = _with_words([piece for piece in _split(tokens, {",", "or"}) if piece], Token("operator", "or") in tokens)
    if len(pieces) > 1 and not all(t.kind == "word" for piece in pieces for t in piece):
        pieces = [p for p in pieces if not all(t.kind == "word" and t.text in _LEAD for t in p)]
    pieces = [signed for piece in pieces for signed in _signs(piece)]
    if len(pieces) == 1:
        return _statement(pieces[0])
    if not 1 < len(pieces) <= _MOST_PARTS:
        return Leaf("")
    return _listed_items(tuple(map(_statement, pieces)), Token("operator", "or") in tokens)


def _denied(tokens: Sequence[Token]) -> bool:
    """Return whether words take back what they stand beside: ``5 is wrong``, ``isn't 5``."""
    return any(t.kind == "word" and (t.text in _DENYING or t.text.endswith("n't")) for t in tokens)


def _verdict(tokens: Sequence[Token]) -> str:
    """Return ``yes`` of ``Yes, such a set exists``; empty if there is a number, or a word against it."""
    if len(tokens) < 3 or tokens[0].text not in ("yes", "no") or tokens[1].text not in (",", "."):
        return ""
    rest = tokens[2:]
    said = all(t.kind in ("word", "name") or t.text in (",", ".", "=") for t in rest)
    against = {"yes", "no", "but"} & {t.text for t in rest} or (tokens[0].text == "yes" and _denied(rest))
    return tokens[0].text if said and not against else ""


def _option(tokens: Sequence[Token]) -> Option | None:
    """Return the reading of ``(B) 42``, ``B) 42`` or ``B. 42``; ``None`` for words, and where two options stand."""
    place = 1 if tokens and tokens[0].text == "(" else 0
    marks = (")",) if place else (")", ".")
    label, rest = tokens[place : place + 2], tokens[place + 2 :]
    if len(label) < 2 or not rest or label[0].text not in _OPTION_LETTERS or label[1].text not in marks:
        return None
    names = [t for t in rest if t.kind == "name" and t.text in _OPTION_LETTERS]
    if names or (rest[0].kind == "operator" and rest[0].text not in ("-", r"\pm")):
        return None
    content = read(rest)
    return None if isinstance(content, Words) else Option(label[0].text, content)


def domain_at(tokens: Sequence[Token]) -> int | None:
    r"""Return where the variable's domain begins in ``2n-1, n \in \mathbb{N}`` or ``x+1 for all x``.

    A domain that says more, as in ``0 for all x < 1``, is part of the answer.
    """
    for place, token in enumerate(tokens[1:-1], start=1):
        tail = tokens[place + 1 :]
        member = token.text in ("(", ",") and [t.text for t in tail[1:2]] == [r"\in"]
        universal = token.text == r"\forall" or (
            token.text == "for" and tail[0].text in ("all", "every", "any", "each")
        )
        if member or universal:
            return place if _is_domain(tail) else None
    return None


def _is_domain(tokens: Sequence[Token]) -> bool:
    return all(t.kind in ("word", "name") or t.text in _DOMAINS or t.text.startswith(r"\mathbb") for t in tokens)


def _listed_items(items: tuple[Reading, ...], alternatives: bool) -> Parts:
    """Return ``x=1, y=2`` as assignments, in order, ``x<1 or x>3`` as a union, and other items as a list."""
    assigned = [item for item in items if isinstance(item, Relation) and item.assigned and item.names[0]]
    names = tuple(item.names[0] for item in assigned)
    if len(set(names)) == len(items):
        return Parts("()", tuple(item.sides[-1] for item in assigned), names=names)
    variables = {item.name if isinstance(item, Parts) else "" for item in items}
    if alternatives and len(variables) == 1 and "" not in variables:
        return Parts("union", items, name=variables.pop())
    return Parts("list", items)


def _stripped(tokens: Sequence[Token]) -> Sequence[Token]:
    """Return tokens without line ends and commas around them, and without reasons or words in brackets behind them."""
    marks = (",", "\\\\", "&")
    reasons = (place for place, token in enumerate(tokens) if place and token.text in ("since", "because"))
    tokens = tokens[: next(reasons, len(tokens))]
    while tokens and tokens[-1].text in marks:
        tokens = tokens[:-1]
    while tokens and tokens[0].text in marks:
        tokens = tokens[1:]
    place = next((place for place in range(len(tokens) - 1, 0, -1) if tokens[place].text == "("), 0)
    said = tokens[place + 1 : -1]
    remark = place and tokens[-1].text == ")" and said and not _denied(said) and all(t.kind == "word" for t in said)
    return tokens[:place] if remark else tokens  # 42 (apples)


def _only_sentence(tokens: Sequence[Token]) -> Sequence[Token]:
    """Return the only sentence that is more than words: ``18. I hope it is correct``; all of it if there is none."""
    sentences = [s for s in _split(tokens, {".", "!"} if tokens and tokens[-1].text == "." else {"."}) if s]
    telling = [s for s in sentences if any(t.kind in ("number", "time", "command", "close") for t in s)]
    return telling[0] if len(telling) == 1 else sentences[0] if len(sentences) == 1 else tokens


def _split(tokens: Sequence[Token], marks: set[str]) -> list[Sequence[Token]]:
    """Return the pieces between operators outside of all brackets."""
    pieces, start, depth = [], 0, 0
    for place, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.kind == "operator" and token.text in marks:
            pieces.append(tokens[start:place])
            start = place + 1
    return [*pieces, tokens[start:]]


def _with_words(pieces: Sequence[Sequence[Token]], alternatives: bool) -> list[Sequence[Token]]:
    """Return pieces of which none is cut out of a sentence: ``72 clips in April and May``."""
    joined: list[Sequence[Token]] = []
    for piece in pieces:
        last = joined[-1] if joined else ()
        inside = last and last[-1].kind == piece[0].kind == "word" and not alternatives
        if inside and _worded(last) != _worded(piece):
            joined[-1] = [*last, *piece]
        else:
            joined.append(piece)
    return joined


def _worded(tokens: Sequence[Token]) -> bool:
    return all(t.kind == "word" for t in tokens)


def _signs(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    r"""Return both readings of the only ``\pm``: ``1\pm\sqrt2`` is two numbers."""
    places = [place for place, token in enumerate(tokens) if token.text in (r"\pm", r"\mp")]
    if len(places) != 1 or tokens[0].text == r"\{":
        return [tokens]
    (place,) = places
    before, after = list(tokens[:place]), list(tokens[place + 1 :])
    unary = not before or before[-1].kind in ("open", "operator")
    plus = [*before, *([] if unary else [Token("operator", "+")]), *after]
    return [plus, [*before, Token("operator", "-"), *after]]


def _statement(tokens: Sequence[Token]) -> Reading:
    """Return the reading of an item: a relation or an expression."""
    operators = [t.text for t in _outside(tokens) if t.kind == "operator" and t.text in _RELATIONS]
    if not operators:
        return _expression(tokens)
    pieces = _split(tokens, _RELATIONS)
    while operators and operators[0] in _SAID and all(t.kind == "word" for t in pieces[0]) and pieces[1]:
        pieces, operators = pieces[1:], operators[1:]  # the answer is ...
    if len(pieces) == 1:
        return read(pieces[0])
    if r"\approx" in operators:  # \sqrt2 \approx 1.41 is the exact number, x \approx 1.41 the other one
        place = operators.index(r"\approx")
        if not _is_name(pieces[place]):
            return _statement(_before(tokens, r"\approx"))
        operators = [op if op != r"\approx" else "=" for op in operators]
    if operators[0] == ":" and _is_name(pieces[0]):
        operators[0] = "="
    if set(operators) == {":"}:
        return Parts("ratio", tuple(map(_expression, pieces)))
    if operators == [r"\in"] and _is_name(pieces[0]):
        members = read(pieces[1])
        return replace(members, names=(text_of(pieces[0]),)) if isinstance(members, Parts) else members
    if operators == [r"\equiv"]:
        return _modular(pieces[1], text_of(pieces[0]))
    if all(operator in (">", r"\ge") for operator in operators):
        pieces, operators = pieces[::-1], [_TURNED[operator] for operator in operators[::-1]]
    names = [text_of(piece) if _is_name(piece) else "" for piece in pieces]
    if operators == ["="] and names[1] and not names[0] and not _denied(pieces[1]):  # 5 = x
        pieces, names = pieces[::-1], names[::-1]
    if operators == ["="] and names[0] and (len(targets := _listed(pieces[0])) > 1):
        value = _expression(pieces[1])  # (x,y) = (1,2)
        return replace(value, names=targets) if isinstance(value, Parts) and len(value.items) == len(targets) else value
    sides = tuple(map(_side if set(operators) == {"="} else _expression, pieces))
    relation = Relation(tuple(operators), sides, tuple(names), latex(tokens))
    return _interval(relation) or relation


def _side(tokens: Sequence[Token]) -> Reading:
    """Return the reading of a side of an equation; of ``9 apples * $2/apple`` that of its numbers."""
    side = _expression(tokens)
    words = {form for t in tokens if t.kind == "word" for form in (t.text, t.text.removesuffix("s"))}
    if side != Leaf("") or not words or words & {*_CHANGING, *_SCALES} or _denied(tokens):
        return side
    per = [t.text == "/" and after.kind == "word" for t, after in pairwise((*tokens, Token("operator", "")))]
    return _expression([t for t, named in zip(tokens, per, strict=True) if t.kind != "word" and not named])


def _before(tokens: Sequence[Token], mark: str) -> Sequence[Token]:
    """Return the tokens before the first ``mark``."""
    return tokens[: next(place for place, token in enumerate(tokens) if token.text == mark)]


def _outside(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens outside of all brackets."""
    found, depth = [], 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.kind != "close":
            found.append(token)
    return found


def _is_name(tokens: Sequence[Token]) -> bool:
    r"""Return whether a side only names a result: ``x``, ``m+n``, ``f(x)``, ``AB``, ``\angle A``, ``dM/dt``, words.

    ``x+1``, ``2x`` and ``x^2`` say something else about ``x``.
    """
    if [t.text for t in tokens[1:7]] == ["^", "{", "-", "1", "}", "("]:  # f^{-1}(x)
        tokens = [tokens[0], *tokens[6:]]
    outside = _outside(tokens)
    if outside and outside[0].text in _ANGLED and not any(t.kind == "operator" for t in outside):
        return any(t.kind == "name" or t.text in GREEK for t in tokens)  # \sin 2A
    if not any(t.kind in ("name", "word") or t.text in GREEK for t in tokens) or any(
        t.kind in ("number", "time") for t in outside
    ):
        return False
    if any(t.text in _NOT_IN_NAMES.split() for t in outside) or outside[:1] == [Token("operator", "-")]:
        return False
    return all(in_index(tokens, place) for place, token in enumerate(tokens) if token.kind == "number")


def _listed(tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the names in ``(x, y)``, or nothing."""
    if not tokens or tokens[0].text != "(" or closing(tokens[1:]) != len(tokens) - 2:
        return ()
    return tuple(text_of(piece) for piece in _split(tokens[1:-1], {","}))


def _modular(tokens: Sequence[Token], name: str = "") -> Reading:
    r"""Return the reading of ``3 \pmod 5``, ``3 (mod 5)`` and so on."""
    places = [place for place, token in enumerate(tokens) if token.text == r"\bmod"]
    if len(places) != 1:
        return Leaf("")
    residue, modulus = tokens[: places[0]], tokens[places[0] + 1 :]
    if residue and residue[-1].text == "(" and modulus and modulus[-1].text == ")":
        residue, modulus = residue[:-1], modulus[:-1]
    return Modular(_expression(residue), _expression(modulus), name)


def _interval(relation: Relation) -> Parts | None:
    r"""Return an inequality in one name as an interval, ``x > 2`` as ``(2,\infty)``; ``None`` for other relations."""
    sides, names, operators = relation.sides, relation.names, relation.operators
    if len(sides) > 3 or not set(operators) <= {"<", r"\le"}:
        return None
    place = 0 if len(sides) == 2 and names[0] else 1
    if not names[place] or sum(map(bool, names)) != 1:
        return None
    infinity, minus = Leaf(r"\infty", literal=True), Leaf(r"- \infty", literal=True)
    low, left = (sides[place - 1], operators[place - 1]) if place else (minus, "<")
    high, right = (sides[place + 1], operators[place]) if place + 1 < len(sides) else (infinity, "<")
    kind = ("[" if left == r"\le" else "(") + ("]" if right == r"\le" else ")")
    return Parts(kind, (low, high), name=names[place])


def _expression(tokens: Sequence[Token]) -> Reading:
    """Return the reading of an expression: a constant, a union, a container or a leaf."""
    while tokens and tokens[0].kind == "word" and len(tokens) > 1 and _whole(tokens[1:]):
        tokens = tokens[1:]  # the point (3,4)
    if len(tokens) == 1 and tokens[0].kind == "time":
        hour, _, rest = tokens[0].text.partition(":")
        return Time(int(hour), rest[:2], rest[2:])
    text = text_of(tokens)
    if text == r"\emptyset":
        return Parts("set", ())
    if text == r"\mathbb{R}":
        return Parts("()", (Leaf(r"- \infty", literal=True), Leaf(r"\infty", literal=True)))
    if len(members := _split(tokens, {r"\cup"})) > 1:
        return Parts("union", tuple(map(_expression, members)))
    if tokens and all(t.kind == "word" for t in tokens):
        return Words(text)
    if _whole(tokens):
        return _container(tokens[0].text, tokens[1:-1], tokens[-1].text)
    if any(t.text == r"\bmod" for t in tokens):
        return _modular(tokens)
    return _leaf(tokens)


def _whole(tokens: Sequence[Token]) -> bool:
    """Return whether one pair of brackets holds everything."""
    return len(tokens) > 1 and tokens[0].kind == "open" and closing(tokens[1:]) == len(tokens) - 2


def _container(left: str, inner: Sequence[Token], right: str) -> Reading:
    r"""Return the reading of a bracketed expression."""
    if left in _MATRICES:
        if inner and left == "array" and inner[0] == LBRACE:  # {cc}
            inner = inner[(closing(inner[1:]) or 0) + 2 :]
        rows = [row for row in _split(inner, {"\\\\"}) if row]
        if left in ("aligned", "align", "gathered") and len(rows) == 1:
            return read([t for t in rows[0] if t.text != "&"])
        cells = [tuple(_statement(cell) for cell in _split(row, {"&"}) if cell) for row in rows]
        kind = "cases" if left in ("cases", "aligned", "align", "gathered") else "matrix"
        return Parts(kind, tuple(Parts("row", row) for row in cells))
    braces = left in (r"\{", "{")
    pieces = _split(inner, {","})
    if braces:
        pieces = [signed for piece in pieces for signed in _signs(piece)]
    if braces and (place := _condition(inner)):
        return _builder(inner[:place], inner[place + 1 :])
    if len(pieces) > _MOST_PARTS:
        return Leaf("")
    if left == r"\{" or (left == "{" and len(pieces) > 1):
        return Parts("set", tuple(_statement(piece) for piece in pieces if piece))
    matching = _PAIRS.get(left) == right
    if left in ("(", "[", r"\langle") and len(pieces) > 1 and (matching or len(pieces) == 2):
        vector = left == r"\langle" or len(pieces) > 2
        return Parts("()" if vector else left + right, tuple(map(_statement, pieces)))
    if left in ("(", "[", "{") and matching:
        return read(inner)
    return _leaf([Token("open", left), *inner, Token("close", right)])


def _condition(inner: Sequence[Token]) -> int:
    r"""Return the place of the mark in ``x \mid x > 2`` or ``x : x > 2``; 0 if there is none."""
    marks = (place for place, token in enumerate(inner) if token.text in ("|", ":"))
    return next((place for place in marks if place and _is_name(inner[:place])), 0)


def _builder(member: Sequence[Token], condition: Sequence[Token]) -> Reading:
    r"""Return a set by condition as an interval or a union, ``\{x \mid -2 \le x < 1\}`` as ``[-2,1)``, or literally."""
    reading = read(condition)
    name = text_of(_split(member, {r"\in"})[0])
    if isinstance(reading, Parts) and reading.name == name:
        items = (replace(item, name="") if isinstance(item, Parts) else item for item in reading.items)
        return replace(reading, items=tuple(items), name="")
    return Leaf(text_of([LBRACE, *member, Token("operator", "|"), *condition, RBRACE]), literal=True)


def _leaf(tokens: Sequence[Token]) -> Leaf:
    """Return the reading of a single expression with the words around it."""
    if [t.text for t in tokens[:2]] == ["-", "dollars"]:  # -$5
        tokens = [tokens[1], tokens[0], *tokens[2:]]
    start = next((place for place, token in enumerate(tokens) if token.kind != "word"), len(tokens))
    lead = tuple(t.text for t in tokens[:start])
    end = next(
        (i for i in range(start, len(tokens)) if tokens[i].kind == "word" and not in_index(tokens, i)), len(tokens)
    )
    body, words = list(tokens[start:end]), tokens[end:]
    if body[-4:] == _DEGREES and all(t.kind != "command" or t.text in (r"\frac", r"\circ", r"\sqrt") for t in body):
        body, words = body[:-4], [Token("word", "degree"), *words]
    if words and body and body[-1].text == "/":  # $5/hour
        body, words = body[:-1], [body[-1], *words]
    raised = ["".join(t.text for t in words[max(i - 2, 0) : i]).endswith(("{", "{-")) for i in range(len(words))]
    if not all(t.kind == "word" or t.text in _IN_UNITS or power for t, power in zip(words, raised, strict=True)):
        return Leaf("")
    if "dollars" in lead:
        words = [Token("word", "dollars"), *words]
        lead = tuple(word for word in lead if word != "dollars")
    if (
        not body
        or _CHANGING & {*lead, *(t.text for t in words)}
        or "times" in lead  # "18 times" is a number, "three times 18" another one
        or _denied(tokens)
        or (words and words[0].text in ("squared", "cubed"))
    ):
        return Leaf("")
    percent = body[-1].text == "%"
    body = body[:-1] if percent else body
    scale = 1
    while words and (word := words[0].text.removesuffix("s")) in _SCALES:
        scale, words = scale * _SCALES[word], words[1:]
    if any(t.text.removesuffix("s") in _SCALES for t in words):
        return Leaf("")
    return _valued(body, scale, percent, unit_of(words), lead)


def unit_of(words: Sequence[Token]) -> tuple[str, ...]:
    """Return the known units among words, in one spelling: ``square centimeters`` and ``cm^2`` are ``2 cm``."""
    found: list[str] = []
    for place, token in enumerate(words):
        if token.text == "in" and place and words[place - 1].text not in ("square", "sq", "cubic", "cu"):
            continue  # 5 km in total
        singular = token.text if token.text in _SAME_UNIT else token.text.removesuffix("s")
        if singular in _SAME_UNIT or is_unit(singular):
            found += _RATES.get(singular, (_SAME_UNIT.get(singular, singular),))
    return tuple(sorted(found)) if "/" not in found else tuple(found)


def _valued(body: Sequence[Token], scale: int, percent: bool, unit: tuple[str, ...], lead: tuple[str, ...]) -> Leaf:
    """Return a leaf with the value of its tokens if that is rational."""
    if not body:
        return Leaf("")
    text = text_of(body)
    if any(t.kind == "number" and body[i + 1 : i + 2] and body[i + 1].text == "_" for i, t in enumerate(body)):
        return Leaf(text, literal=True)  # 243_5
    if any(t.text == r"\infty" for t in body):
        return Leaf(text.removeprefix("+ "), literal=True)
    try:
        value = Arithmetic(body).value()
    except ZeroDivisionError:
        return Leaf(text, literal=True)
    except NotRational:
        expression = latex(body)
        scaled = f"{scale} \\cdot ( {expression} )" if expression and scale > 1 else expression
        return Leaf(scaled, percent=percent, unit=unit, lead=lead)
    numbers = [t.text for t in body if t.text not in ("-", "+", "{", "}")]
    step = last_place(numbers[0]) if len(numbers) == 1 else None
    return Leaf(plain_fraction(value * scale) or latex(body), value * scale, step and step * scale, percent, unit, lead)
