"""The rewards of multiple-choice questions: the full text of a right option, or its letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from string import ascii_uppercase
from typing import final

from omnithink_pl.rewards.base import BAD_REFERENCE, NO_ANSWER, Reward
from omnithink_pl.rewards.format import extract_answer
from omnithink_pl.types import Example, Group, Options, Outcome


@final
class QAReward(Reward):
    """1 where the answer is the full text of an accepted option, else 0 (the paper, section 4.4).

    Layout around the answer does not count (:func:`layers`), nor does another spelling of the same characters
    (:func:`plain`), except where that would make a wrong option equal to a right one, as with ``10.`` and ``10``. Case
    counts: the options stand in the prompt to be copied, and units (``mW``, ``MW``), genes and elements differ by it.
    An answer that resembles no option is wrong, not undefined.
    """

    name = "qa"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order."""
        return [[_text_outcome(c.text, _options(group.example)) for c in group.completions] for group in groups]


@final
class LetterReward(Reward):
    """1 where the answer is the letter of a right option, else 0: the second protocol of the paper's Figure 2.

    ``B``, ``(B)``, ``[B]``, ``B.``, ``B)`` and ``**B**`` are the same letter, in upper case. The option's own text may
    follow; any other text makes the answer wrong. An option with the same text as a right one is right too.
    """

    name = "letter"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order."""
        return [[_letter_outcome(c.text, group.example) for c in group.completions] for group in groups]


def meant_options(answer: str, texts: Sequence[str]) -> set[str]:
    """Return the options that an answer names: none, one, or several that are the same to it.

    The closest reading that fits any option decides, so that what two options differ by always counts: first the
    characters as they are, then in plain spelling; first against the options as they stand, then without their own
    layout; first with all that the answer has, then with one layer of layout less after the other.
    """
    if len(spaced(answer)) > max(map(len, texts), default=0) + _MOST_LAYOUT:
        return set()
    for spell in (spaced, plain):
        own = {text: spell(text) for text in texts}
        bare = {text: set().union(*layers(spelled, _ENCLOSING)) for text, spelled in own.items()}
        for options in ({text: {spelled} for text, spelled in own.items()}, bare):
            for readings in layers(spell(answer), _LAYOUT):
                if found := {text for text, forms in options.items() if forms & readings}:
                    return found
    return set()


def spaced(text: str) -> str:
    """Return a text in Unicode's composed form, with single blanks for white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def plain(text: str) -> str:
    r"""Return a text in plain spelling, without full width, ligatures, no-break blanks, curved quotes and long dashes.

    So ``10\%`` is ``10%``, as LaTeX and Markdown escape it. Characters with another value without their form stay:
    ``10²`` is not ``102``, and ``5½`` not ``51/2``.
    """
    folded = "".join(
        unicodedata.normalize("NFKC", one) if unicodedata.decomposition(one).startswith(_SAME_VALUE) else one
        for one in unicodedata.normalize("NFC", text)
    )
    return spaced(_ESCAPED.sub(r"\1", folded.translate(_TYPOGRAPHY)))


def layers(text: str, rules: Sequence[Rule]) -> Iterator[set[str]]:
    """Yield a text, then what it is with one layer of layout less each time, whichever layer that is.

    ``- **Paris.**`` yields also ``**Paris.**``, then ``Paris.``, then ``Paris``.
    """
    readings = {text} - {""}
    for _ in range(_MOST_LAYERS):
        yield readings
        readings = {inner for reading in readings for rule in rules if (inner := rule(reading))}


Rule = Callable[[str], str | None]
"""Takes off one kind of layout that encloses a whole text; ``None`` where nothing does."""

_MOST_LAYERS = 6
_MOST_LAYOUT = 100  # characters that an answer may have beyond the longest option
_SAME_VALUE = ("<wide>", "<narrow>", "<compat>", "<noBreak>", "<font>", "<square>")
_TYPOGRAPHY = str.maketrans("‘’‚′“”„″‐‑‒–—−", "''''\"\"\"\"------")
_ESCAPED = re.compile(r"\\([$%&#_*])")
_BULLET = re.compile(r"[-*•][ \t]+(.+)", re.DOTALL)
# What is inside may have the same marks, "$8,902": more than one option, "*a* or *b*", is none of the options.
_EMPHASIS = re.compile(r"(?:\*\*\*(.+)\*\*\*|\*\*(.+)\*\*|\*(.+)\*|___(.+)___|__(.+)__|_(.+)_)", re.DOTALL)
_CODE = re.compile(r"``(.+)``|`(.+)`", re.DOTALL)  # also `**kwargs`
_QUOTES = re.compile(r"\"(.+)\"|'(.+)'|“(.+)”|‘(.+)’|«(.+)»|„(.+)[“”]", re.DOTALL)
_FORMULA = re.compile(
    r"\$\$([^$]+)\$\$|\$(.+)\$|\\\((.+)\\\)|\\\[(.+)\\\]|\\(?:boxed|(?:text|math)(?:bf|it|rm|tt)?)\{(.+)\}", re.DOTALL
)
_FULL_STOP = re.compile(r"(.*[^.\s]\.?)[.。]", re.DOTALL)  # also behind the option's own; an ellipsis is text


def _inside(pattern: re.Pattern[str]) -> Rule:
    """Return the rule of a pattern whose one group that takes part is what is left."""

    def rule(text: str) -> str | None:
        found = pattern.fullmatch(text)
        return None if found is None else next(filter(None, found.groups())).strip()

    return rule


# What models put around an answer, each with an example.
_ENCLOSING: tuple[Rule, ...] = (
    _inside(_EMPHASIS),  # **Paris**, _Paris_
    _inside(_CODE),  # `Paris`
    _inside(_QUOTES),  # "Paris"
    _inside(_FORMULA),  # $5$, \(5\), \boxed{5}
    _inside(_FULL_STOP),  # Paris.
)
# The bullet is the prompt's own, "- Paris". In an option itself, a dash in front may be a sign.
_LAYOUT = (_inside(_BULLET), *_ENCLOSING)


def _options(example: Example) -> Options:
    reference = example.reference
    if isinstance(reference, str):
        return Options((reference,), (reference,))
    if not isinstance(reference, Options):
        raise TypeError(f"{example.uid}: a question's reference is Options or text, not {type(reference).__name__}")
    return reference


def _text_outcome(text: str, options: Options) -> Outcome:
    accepted = {spaced(answer) for answer in options.answers if spaced(answer)}
    if not accepted:
        return Outcome.undefined(BAD_REFERENCE)
    if (answer := extract_answer(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    return Outcome.of(_is_accepted(meant_options(answer, (*options.texts, *options.answers)), accepted))


def _is_accepted(meant: set[str], accepted: set[str]) -> bool:
    """Return whether an answer names right options only: what fits a wrong one too has not chosen."""
    return bool(meant) and {spaced(text) for text in meant} <= accepted


# A letter in its usual forms, "B", "(B)", "[B].", "**B**:", and what follows it.
_LETTER = re.compile(
    r"(?P<mark>\*{1,3}|_{1,3}|`)?(?:\((?P<round>[A-Z])\)|\[(?P<square>[A-Z])\]|(?P<bare>[A-Z]))"
    r"(?P<stop>[.:)]?)(?(mark)(?P=mark))(?P<later>\s*-(?=\s)|[.:)]?)(?P<text>(?:\s*\S.*)?)",
    re.DOTALL,
)


def _letter_outcome(text: str, example: Example) -> Outcome:
    options = example.reference
    if not isinstance(options, Options):
        raise TypeError(f"{example.uid}: letters need Options, not {type(options).__name__}")
    accepted = {spaced(answer) for answer in options.answers}
    if not accepted & {spaced(option) for option in options.texts}:
        return Outcome.undefined(BAD_REFERENCE)
    if (answer := extract_answer(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    longest = max(map(len, options.texts)) + _MOST_LAYOUT
    readings = layers(plain(answer) if len(answer) <= longest else "", _LAYOUT)
    chosen = {option for some in readings for one in some if (option := _lettered(one, options.texts))}
    return Outcome.of(_is_accepted(chosen, accepted))


def _lettered(answer: str, texts: Sequence[str]) -> str:
    """Return the option whose letter an answer is; empty if it is none, or says something else beside it."""
    found = _LETTER.fullmatch(answer)
    if found is None:
        return ""
    place = ascii_uppercase.index(found["round"] or found["square"] or found["bare"])
    if place >= len(texts):
        return ""
    rest = found["text"].strip()
    if rest and found["bare"] and not (found["mark"] or found["stop"] or found["later"]):
        return ""  # "An apple"
    meant = {spaced(text) for text in meant_options(rest, texts)} if rest else set()
    return texts[place] if not rest or meant == {spaced(texts[place])} else ""
