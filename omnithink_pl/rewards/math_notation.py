r"""Notation of mathematical answers: which part of a text is the answer, and its tokens in one spelling.

LaTeX, Markdown, plain text, code and Unicode become the same tokens: ``\dfrac12``, ``½`` and ``\frac{1}{2}`` are equal
here, and so are ``x**2``, ``x²`` and ``x^{2}``. Words are tokens of their own, so that nothing after this module can
read ``people`` as a product of letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["number", "word", "name", "command", "operator", "open", "close", "time"]


class Token(NamedTuple):
    """A lexeme in its one spelling."""

    kind: Kind
    text: str


LBRACE, RBRACE = Token("open", "{"), Token("close", "}")
_OPEN = ("(", "[", "{", r"\{", r"\lfloor", r"\lceil", r"\langle")
_CLOSE = (")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\rangle")
_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, "^": 1, "_": 1}
_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp sqrt max min gcd lcm det"
_LETTERS = "alpha beta gamma delta epsilon eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
GREEK = frozenset("\\" + letter for letter in _LETTERS.split()) - {r"\pi"}
# Words that join, are or mean an operator.
_SPOKEN = {
    **dict.fromkeys(["is", "are", "equals", "equal"], Token("operator", "=")),
    "and": Token("operator", ","),
    "or": Token("operator", "or"),
    **dict.fromkeys(["percent", "percentage", "pct"], Token("operator", "%")),
    **dict.fromkeys(["infinity", "inf", "oo"], Token("command", r"\infty")),
    "mod": Token("command", r"\bmod"),
}
_UNITS = (
    "km|cm|mm|nm|dm|ft|in|yd|mi|lb|lbs|oz|kg|mg|ml|mL|hr|hrs|sq|cu|cc|rs|Rs|mph|kph|kmh|deg|min|sec"
    "|[kMGTm]?(?:Hz|eV|Pa)|[kMGTm][JWNV]|mA|ms|rad|mol|erg|yr|[kM]?pc|AU|k?cal|atm|rpm"
)
_UNIT_LETTERS = "mgshLNJWVAKCFlTHD"
_PER = rf"\s*/\s*(?:{_UNITS}|[hsmL])(?![a-zA-Z])"
_UNIT = re.compile(rf"(?:{_UNITS})(?![a-zA-Z]|\s*\}})(?:{_PER})?")  # \frac{{3mg}}{{2}} is a product
# In an answer, behind a space, where the gold has no such variables; 2pt is a product elsewhere.
_LOOSE_UNIT = re.compile(r"(?:K[gG]|kgs|yrs|[kKMGT]B|pts?|tsp|tbsp|qts?)(?=[.,]?\s*$|[.,]?\s+[a-z]{2,})")
_RATE = re.compile(rf"[mgshLNJWVAKCF]{_PER}")
_LETTER_UNIT = re.compile(r"[mgshLNJWVAKCF](?=[.\s]*$|\^)")
_FRACTION_OF_UNITS = re.compile(r"[a-zA-Z]\s*[/^·]")
_RAISED_ORDINAL = re.compile(r"(?<=\d)\^\s*\{\s*(?:\\(?:text|mathrm|textrm)\s*\{)?(st|nd|rd|th)\s*\}{1,2}")
_ORDINAL = re.compile(r"(?:st|nd|rd|th)(?![a-zA-Z])")
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
_BASE_SHAPES = (("(", "base", "", ")"), ("in", "base", ""), ("base", ""), ("_", "{", "", "}"))
_PARTICLES = "a A I an as at be by do he if in it me my of on so to up us we am"
_WORD_AFTER = re.compile(r"\s+([a-zA-Z]{2,})")
_WORD_BEFORE = re.compile(r"(?:^|[^\\a-zA-Z])[a-zA-Z]{2,},?\s+$")
_TOLD = re.compile(r"(?:^|[^\\a-zA-Z])(?!(?:is|are|and|or|equals?)\s)[a-zA-Z]{2,}\s+$")
_OF = re.compile(r"\bof\s+$")
_JOINED = re.compile(r"\s+(?:and|or)\s+[A-Z][a-z]")
_OPENING = "So In By On At If It We He"
_OPENED = re.compile(r",|\s+(?:\\?\$)?\d")  # So, Tom has 5; So 5 apples
_FACTOR = re.compile(r" (?:\\?\$\s?)?\.?\d")
_POWER_OF_TEN = re.compile(r"\s*10\s*(?:\^|\*\*)")
_GLUED = re.compile(r"(arcsin|arccos|arctan|sin|cos|tan|cot|ln|log|sqrt)([a-zA-Z])")
_GLUED_WORDS = "cost tank logs sins sing sink tans tang cots"  # where they stand in a sentence
_SHORT_WORDS = """
ago all any are art bag bar bat bed bee bin bit bow box boy bug bus but buy can cap car cat cow cup cut day did dog dry
due each egg end eye far few fit for fox fun get got guy had has hat hen her him his how ice its jar job key kid law let
lot low man may men mom net new not now off oil old one our out own pen per pet pie pig pot put ran red row rug run saw
sea see set she sit six sum ten the tie tip toy two usd use van via was way who why win won yen yes yet you
"""
_COMMANDS = {
    **dict.fromkeys([r"\dfrac", r"\tfrac", r"\cfrac"], r"\frac"),
    **dict.fromkeys([r"\dbinom", r"\tbinom"], r"\binom"),
    **dict.fromkeys([r"\leq", r"\leqslant"], r"\le"),
    **dict.fromkeys([r"\geq", r"\geqslant"], r"\ge"),
    **dict.fromkeys([r"\simeq", r"\sim", r"\thickapprox"], r"\approx"),
    **dict.fromkeys([r"\varnothing", r"\O"], r"\emptyset"),
    **dict.fromkeys([r"\mod", r"\pmod"], r"\bmod"),
    **dict.fromkeys([r"\times", r"\ast"], r"\cdot"),
    **dict.fromkeys([r"\vert", r"\lvert", r"\rvert", r"\mid"], "|"),
    r"\neq": r"\ne",
    r"\div": "/",
    r"\lt": "<",
    r"\gt": ">",
    r"\lbrace": r"\{",
    r"\rbrace": r"\}",
    r"\lbrack": "[",
    r"\rbrack": "]",
    r"\%": "%",
    r"\#": "#",
    r"\&": "&",
    r"\colon": ":",
    r"\prime": "'",
    r"\varphi": r"\phi",
    r"\varepsilon": r"\epsilon",
    r"\cdots": r"\ldots",
    r"\dots": r"\ldots",
}
_OPERATORS = {"*": r"\cdot", "**": "^", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "==": "=", ";": ",", "...": r"\ldots"}
_OPERATOR_COMMANDS = (
    *(r"\le", r"\ge", r"\ne", r"\approx", r"\in", r"\equiv", r"\cdot", r"\cup", r"\cap", r"\pm", r"\mp", r"\setminus"),
    "\\\\",
)
_VULGAR = ("12", "13", "23", "14", "34", "15", "25", "35", "45", "16", "56", "18", "38", "58", "78")
_UNICODE = str.maketrans(
    {
        "√": r"\sqrt ",
        "∛": r"\sqrt[3] ",
        "∞": r"\infty ",
        "°": r"^{\circ}",
        "º": r"^{\circ}",
        "×": r"\cdot ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": "/",
        "∕": "/",
        "⁄": "/",
        "−": "-",
        "–": "-",
        "—": "-",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "≡": r"\equiv ",
        "∈": r"\in ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∅": r"\emptyset ",
        "±": r"\pm ",
        "∓": r"\mp ",
        "∖": r"\setminus ",
        "→": r"\to ",
        "∣": "|",
        "∠": r"\angle ",
        "π": r"\pi ",
        "θ": r"\theta ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "γ": r"\gamma ",
        "δ": r"\delta ",
        "λ": r"\lambda ",
        "μ": r"\mu ",
        "φ": r"\phi ",
        "ω": r"\omega ",
        "ρ": r"\rho ",
        "σ": r"\sigma ",
        "ℝ": r"\mathbb{R}",
        "ℤ": r"\mathbb{Z}",
        "ℕ": r"\mathbb{N}",
        "⌊": r"\lfloor ",
        "⌋": r"\rfloor ",
        "∴": "",
        "€": r"\$",
        "₹": r"\$",
        "£": r"\$",
        "¥": r"\$",
        "’": "'",
        "“": "",
        "”": "",
        '"': "",
        "\u200b": "",
        "。": ". ",
        **{c: rf" \frac{{{d[0]}}}{{{d[1]}}}" for c, d in zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", _VULGAR, strict=True)},
    }
)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_HALF_DAY = r"(?:\s|~)*(?:\\(?:text|mathrm|textrm|mbox)\s*\{(?:\s|~)*)?(?P<%s>[aApP])\.?\s?[mM](?![a-zA-Z])\.?\s*\}?"
_MARKS = r"\{,\}|\{\\,\}|\\,|\\\ |,\\!\s*|\\!|~|[ \u202f\u2009\xa0]|,"  # between thousands
_LEXEME = re.compile(
    rf"""
    (?P<skipped>\s+ | ~ | \\[,;:!>\ ] | \\q?quad(?![a-zA-Z]) | \\(?:left|right)\s*\. | \$+ | \\[()\[\]] | [`\#] |
        \\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|large|Large|LARGE|huge|Huge|limits|boldsymbol|mathbf|mathit|bm|rm|bf|it|boxed|
        therefore)(?![a-zA-Z]) | \\mathrm\s+(?=\w) |
        \\(?:text)?color\s*{{\w+}} | (?<=\\\\)\s*\[-?[\d.]+(?:pt|em|ex|mm)\] ) |
    (?P<time>(?P<hour>\d\d?)(?: :(?P<minute>[0-5]\d)(?::\d\d)?(?!\d)(?:{_HALF_DAY % "half"})?|{_HALF_DAY % "half2"})) |
    (?P<number>(?: [1-9]\d{{0,2}}(?P<mark>{_MARKS})\d{{3}}(?:(?P=mark)\d{{3}})*(?!\d)(?:\.\d+)?
        | \d*\.\d+ | \d+\.(?=\s*[/*^]|\\overline|\\bar|\\dot) | \d+ )
        (?: \\(?:overline|bar|dot)\s*(?:{{(?P<period>\d+)}}|(?P<period2>\d)) | (?P<power>[eE][+-]?\d+(?![\d.])) )?) |
    (?P<written>\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|sf|tt)|mbox|hbox|operatorname\*?)\s*
        {{(?P<content>[^{{}}]*)}}) |
    (?P<environment>\\(?P<side>begin|end)\s*{{(?P<kind>[a-zA-Z]+)\*?}}) |
    (?P<field>\\mathbb\s*{{?\s*(?P<letter>[A-Z])\s*}}?) |
    (?P<command>\\[a-zA-Z]+ | \\.) |
    (?P<letters>(?:(?:np|numpy|math|sp|sympy)\.(?=[a-z]))?
        (?P<run>[a-zA-Z]+(?:'(?:s|t|re)(?![a-z]) | (?<=[a-z]{{3}}s)'(?=\s))?)) |
    (?P<symbol>\*\*|<=|>=|!=(?!=)|==|\.\.\.|.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_DELIMITED = re.compile(
    r"(?<![\\\w])\$\$?(?=[^\s$])((?:\\.|[^$\\])*)(?<!\s)\$\$?(?!\d)"
    r"|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)
_EMPHASIS = re.compile(r"(?<![\w)*])(\*\*|__|\*)(?=\S)([^*]+?)(?<=\S)\1(?![\w(*])")
_ANSWER_IS = re.compile(r"####|(?i:\banswer\s*(?:is|:|=)(?!\s*not\b))")
_JOINT = re.compile(  # between two boxes
    r"(?=.*(?:[,;]|and|or))(?:[\s$,;*~}]|\\[()\[\],; ]|\\q?quad|\\text\s*\{|and|or)+", re.DOTALL
)
_EXPLANATION = re.compile(
    r"\n[ \t]*[*_#]{0,6}[ \t]*(?:explanation|reasoning|justification|note|this is)\b", re.IGNORECASE
)
_ARROWS = re.compile(r"(?:\s|=(?!=)>?|->|[⇒→✅]|\\(?:Rightarrow|implies|to)(?![a-zA-Z]))+")
_DOLLAR = re.compile(r"(?<!\\)\$")
_CURRENCY = re.compile(r"(?<!\\)\$(?=\s?[\d.])")
_SCALE = re.compile(r"[}\s$*\\)\]]*(hundred|thousand|million|billion|trillion|dozen)", re.IGNORECASE)


def final_expression(text: str) -> str:
    r"""Return the part of a text that states its result.

    It is the content of the last ``\boxed{}`` with a scale word that follows, or of the last ones if a comma, "and"
    or "or" is all between them: who boxes two answers has not chosen one. Else it is what follows the last ``####`` or
    "answer is", else the only formula with the words after it, else the whole text. ``So \(5\) apples.`` states
    ``5 apples``. An explanation below it is left out.
    """
    if boxed := _boxed(text):
        return boxed
    text = _EXPLANATION.split(text.strip(), maxsplit=1)[0]
    for _ in range(2):  # **_5_**
        text = _EMPHASIS.sub(r"\2", text)
    if marks := list(_ANSWER_IS.finditer(text)):
        tail = text[marks[-1].end() :].strip()
        text = tail if tail and tail.count("{") == tail.count("}") else text
    formulas = list(_DELIMITED.finditer(text))
    if len(formulas) == 1:
        (formula,) = formulas
        before, after = text[: formula.start()], text[formula.end() :]
        if not re.search(r"[\d=]|\bnot\b|n't\b|^\W*[A-F][).]", before) and not re.search(r"\d", after):
            words = re.split("[.,;:!?\n]", after, maxsplit=1)[0]
            text = f"{formula[1] or formula[2] or formula[3]} {words.strip()}"
    arrow = _ARROWS.match(text)
    return text[arrow.end() if arrow else 0 :].strip(" \t\n=").rstrip(".").strip()


def _boxed(text: str) -> str:
    r"""Return the content of the last balanced ``\boxed{}``, with what is joined to it; empty if there is none."""
    boxes = _boxes(text)
    if not boxes:
        return ""
    *_, (before, start, end, after) = boxes
    scale = _SCALE.match(text, after)
    stated = [text[start:end] + (f" {scale[1]}" if scale else "")]
    joints = []
    for earlier in boxes[-2::-1]:
        joint = text[earlier[3] : before]
        if not _JOINT.fullmatch(joint):
            break
        joints.append(" or " if "or" in joint else ", ")
        stated.append(text[earlier[1] : earlier[2]])
        before = earlier[0]
    if len(set(stated)) == 1:  # said twice
        return stated[0].strip()
    return "".join(f"{part}{joint}" for part, joint in zip(stated[::-1], [*joints[::-1], ""], strict=True)).strip()


def _boxes(text: str) -> list[tuple[int, int, int, int]]:
    r"""Return where each balanced ``\boxed{}`` begins and its content begins and ends, and what follows it."""
    opened: list[tuple[int, int, bool]] = []  # where it begins, where its content does, and whether it is boxed
    found = []
    for match in re.finditer(r"\\(?:boxed|fbox|framebox)\s*\{|[{}]|\\boxed\s+(\w+)", text):
        if match[1]:
            found.append((match.start(), match.start(1), match.end(1), match.end()))
        elif match[0] != "}":
            opened.append((match.start(), match.end(), match[0] != "{"))
        elif opened:
            before, start, boxed = opened.pop()
            if boxed:
                found.append((before, start, match.start(), match.end()))
    return sorted(found)


def tokenize(text: str, variables: Collection[str] | None = None, literal: bool = False) -> list[Token]:
    r"""Return the tokens of an expression.

    Args:
        text: The expression.
        variables: Letters that are variables even where they could be units: for an answer, those of its gold. With
            ``None`` every letter is a variable: the ``m`` of a gold ``5 m``.
        literal: Read ``2e-1`` as twice Euler's number less 1, and not as 0.2, and ``1,234`` as two numbers.
    """
    for pattern, mark in ((_RAISED, "^"), (_LOWERED, "_")):
        text = pattern.sub(lambda match, mark=mark: f"{mark}{{{match[0]}}}", text)  # type: ignore[misc]
    text = unicodedata.normalize("NFKC", text.translate(_UNICODE)).translate(_UNICODE)
    text = re.sub(r"\bUS(?=\s?\\?\$)", "", text)
    if len(_DOLLAR.findall(text)) == 1:  # $25 is no formula
        text = _CURRENCY.sub(r"\\$", text)
    text = _RAISED_ORDINAL.sub(r" \1", text)
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)  # escaped once too often
    tokens: list[Token] = []
    position, depth, spaced = 0, 0, False
    while match := _LEXEME.match(text, position):
        position = match.end()
        match match.lastgroup:
            case "skipped":
                spaced = True
                continue
            case "number":
                if match["mark"] == "," and (depth or literal):  # (1,234) has two entries
                    position = match.start("mark")
                    found = [Token("number", text[match.start() : position])]
                elif literal and re.match("e[+-]", match["power"] or ""):
                    position = match.start("power")
                    found = [Token("number", _digits(text[match.start() : position]))]
                else:
                    found = [Token("number", _number(match))]
            case "letters" if unit := _unit(tokens, text, match.start(), spaced, variables):
                found = [Token("operator" if word == "/" else "word", word) for word in re.findall(r"\w+|/", unit)]
                position = match.start() + len(unit)
            case "letters":
                found = _letters(match["run"], text[:position], text[position:], tokens, variables)
            case "written":
                found = _written(match["content"], tokens)
            case _:
                found = _symbol(match)
        depth += sum((t.kind == "open") - (t.kind == "close") for t in found if t.text not in "{}")
        tokens += found
        spaced = False
    return brace_arguments(_bases(tokens))


def is_unit(word: str) -> bool:
    """Return whether a word is the sign of a unit; case counts: ``mW`` is not ``MW``."""
    return re.fullmatch(_UNITS, word) is not None


def _bases(tokens: Sequence[Token]) -> list[Token]:
    r"""Return tokens in which ``243 (base 5)`` and ``243_{\text{five}}`` are ``243_5``."""
    done: list[Token] = []
    place = 0
    while place < len(tokens):
        for shape in _BASE_SHAPES if done and done[-1].kind == "number" else ():
            texts = [token.text for token in tokens[place : place + len(shape)]]
            base = texts[shape.index("")] if len(texts) == len(shape) else ""
            base = _BASES.get(base, base)
            if base.isdecimal() and all(want in ("", text) for want, text in zip(shape, texts, strict=True)):
                done += [Token("operator", "_"), Token("number", base)]
                place += len(shape)
                break
        else:
            done.append(tokens[place])
            place += 1
    return done


def _number(match: re.Match[str]) -> str:
    """Return ``1234.5``, ``2.5e-18`` or, for a repeating decimal, ``0.1(6)``."""
    text = match[0]
    if period := match["period"] or match["period2"]:
        whole, _, tail = text.partition("\\")[0].strip().partition(".")
        return f"{_digits(whole) or 0}.{tail}({period})"
    mantissa, _, power = text.lower().partition("e")
    return _digits(mantissa) + (f"e{int(power)}" if power else "")


def _digits(text: str) -> str:
    """Return a number without marks between thousands."""
    return re.sub(r"[^\d.]", "", text)


def _symbol(match: re.Match[str]) -> list[Token]:
    """Return the token of a time of day, an environment, a number set, a command or a sign."""
    if match["time"]:
        half = match["half"] or match["half2"] or ""
        return [Token("time", f"{int(match['hour'])}:{match['minute'] or '00'}{half.lower()}")]
    if match["environment"]:
        return [Token("open" if match["side"] == "begin" else "close", match["kind"])]
    if match["field"]:
        return [Token("command", rf"\mathbb{{{match['letter']}}}")]
    text = match[0]
    if text == r"\degree":
        return [Token("operator", "^"), LBRACE, Token("command", r"\circ"), RBRACE]
    text = _OPERATORS.get(text, _COMMANDS.get(text, text))
    if text in (r"\$", r"\textdollar"):  # any currency
        return [Token("word", "dollars")]
    if text in _OPEN or text in _CLOSE:
        return [Token("open" if text in _OPEN else "close", text)]
    if text.startswith("\\") and text not in _OPERATOR_COMMANDS:
        return [Token("command", text)]
    return [Token("operator", text)]


def _unit(
    before: Sequence[Token], text: str, start: int, spaced: bool, variables: Collection[str] | None
) -> str | None:
    """Return the unit that begins at ``start``, behind a number: ``km``, ``km/h``, ``m/s`` after a space, an ordinal.

    A letter alone is a unit if it ends the text; none is made of the gold's variables.
    """
    unit = _UNIT.match(text, start)
    if unit and variables is not None:
        if {*unit[0]} <= {*variables}:  # 2mg, where the gold has m and g
            return None
        if spaced and [t.kind for t in before[-2:]] == ["number", "close"]:  # 10^{8} km
            return unit[0]
    if not before or (before[-1].kind != "number" and before[-1].text not in ("sq", "cu")):
        return None
    if unit:
        return unit[0]
    if ordinal := _ORDINAL.match(text, start):
        return ordinal[0]
    if not spaced:
        return None
    loose = _LOOSE_UNIT.match(text, start)
    if loose and variables is not None and not {*loose[0]} <= {*variables}:
        return loose[0]
    if unit := _RATE.match(text, start):
        return unit[0]
    alone = _LETTER_UNIT.match(text, start)
    return alone[0] if alone and variables is not None and alone[0] not in variables else None


def _letters(
    run: str, before: str, after: str, tokens: Sequence[Token], variables: Collection[str] | None
) -> list[Token]:
    """Return the tokens of a run of letters without a command: an operator, a function, a word or variables."""
    counted = bool(tokens) and tokens[-1].kind == "number"
    if run.lower() in _SPOKEN and run not in ("Is", "OO"):
        return [_SPOKEN[run.lower()]]
    if (run in _FUNCTIONS.split() and not (counted and run == "min")) or run in _LETTERS.split():
        return [Token("command", "\\" + run)]
    before = before[: -len(run)]
    amount = any(token.kind == "number" for token in tokens)
    times = _POWER_OF_TEN.match(after) or (before.endswith(" ") and _FACTOR.match(after))
    if run in ("x", "X") and times and (counted or (amount and tokens[-1].kind == "word")):  # 6 x 7, 6 boxes x 7
        return [Token("operator", r"\cdot")]
    if run == "cbrt":
        return [Token("command", r"\sqrt"), Token("open", "["), Token("number", "3"), Token("close", "]")]
    told = _TOLD.search(before) and (amount or not _OF.search(before))  # she needs to pay; 5 cups of tea, area of abc
    if (function := _GLUED.fullmatch(run)) and not (
        run in _GLUED_WORDS.split()
        and (variables is None or function[2] not in variables)
        and (told or _is_told(after) or (counted and variables is not None and before.endswith(" ")))
    ):
        return [Token("command", "\\" + function[1]), Token("name", function[2])]
    temperature = run in ("C", "F") and any(token.text == r"\circ" for token in tokens[-2:])
    refusal = run in ("No", "no") and not counted
    own = len(run) > 1 and run.istitle() and variables is not None and {*run} <= {*variables}  # Ce^x, Ax where ...
    if (
        temperature
        or refusal
        or run in ("USD", "EUR", "GBP")
        or (not own and _is_word(run, before, after, bool(told), counted))
    ):
        return [Token("word", run.lower())]
    return [Token("name", letter) for letter in run if letter != "'"]


def _is_word(run: str, before: str, after: str, told: bool, counted: bool) -> bool:
    """Return whether a run of letters is a word, and not a product of variables.

    Four letters and more are one, unless they are capitals as of a polygon. Three are one if it is common, or looks
    like a name before another word: "Tom has", "Sam and Tom". Two are one in "Al has". One or two are one if it is
    a particle beside another word, "sold at the market", but ``v = at``, or opens the text: "So, 5".
    """
    if len(run) > 4 or (len(run) == 4 and not run.isupper()):
        return True
    word_after = _is_told(after)
    beside_word = word_after or (len(run) > 1 and _WORD_BEFORE.search(before) is not None)  # an article precedes
    if len(run) == 3 and run.islower():
        between = word_after and (counted or _WORD_BEFORE.search(before))  # 36 hot dogs, pies and hot dogs
        return run in _SHORT_WORDS.split() or told or bool(between)
    if len(run) == 3:
        name = run.istitle() and (word_after or _JOINED.match(after))  # Tom has; Sam and Tom
        return bool(name) or (not run.isupper() and run.lower() in _SHORT_WORDS.split())
    if run in _OPENING.split() and not before.strip() and _OPENED.match(after):
        return True
    if len(run) == 2 and run.istitle() and word_after:  # Mr
        return True
    return beside_word and (run in _PARTICLES.split() or run.lower() in _PARTICLES.split()[3:])


def _is_told(after: str) -> bool:
    """Return whether a word follows that is no operator."""
    following = _WORD_AFTER.match(after)
    return following is not None and following[1].lower() not in _SPOKEN


def _written(content: str, tokens: Sequence[Token]) -> list[Token]:
    r"""Return the tokens of ``\text{...}``: mathematics, a function's name, a variable, or words.

    Words of one letter, such as the metres of ``5 \text{ m}``, follow something; ``2\mathrm{e}`` is no unit.
    """
    inner = re.sub(r"[~\\ ]+", " ", content).strip()
    if inner in _FUNCTIONS.split():
        return [Token("command", "\\" + inner)]
    after = bool(tokens) and (tokens[-1].kind in ("number", "word", "close") or tokens[-1].text in ("/", r"\circ"))
    if len(inner) == 1 and inner.isalpha():
        factor = after and tokens[-1].kind in ("number", "close") and inner not in _UNIT_LETTERS
        return [Token("word" if after and not factor else "name", inner)]
    if not re.search(r"[a-zA-Z]{2}", inner) and not (after and _FRACTION_OF_UNITS.match(inner)):
        return tokenize(inner)
    pieces = re.findall(r"[^\W\d_]+(?:[-'.][^\W\d_]+)*|\d+(?:\.\d+)?|[^\w\s]", inner)
    return [token for piece in pieces for token in _piece(piece)]


def _piece(piece: str) -> list[Token]:
    if piece.lower() in ("and", "or", "is", "percent"):
        return [_SPOKEN[piece.lower()]]
    if piece[0].isalpha():
        return [Token("word", piece if len(piece) == 1 or is_unit(piece) else piece.lower())]
    return tokenize(piece)


def brace_arguments(tokens: Sequence[Token]) -> list[Token]:
    r"""Return tokens with braces around every argument: ``x^2``, ``\frac12``, ``\sqrt(2)``, ``e^-x``."""
    done: list[Token] = []
    queue = list(reversed(tokens))
    while queue:
        token = queue.pop()
        done.append(token)
        wanted = _ARGUMENTS.get(token.text, 0) if token.kind != "word" else 0
        if token.text == r"\sqrt" and queue and queue[-1].text == "[":
            while queue and done[-1].text != "]":
                done.append(queue.pop())
        for _ in range(wanted):
            argument = _argument(queue, one_digit=token.text in (r"\frac", r"\binom"))
            if argument is not None:
                done += [LBRACE, *brace_arguments(argument), RBRACE]
    return done


def _argument(queue: list[Token], one_digit: bool, nested: bool = False) -> list[Token] | None:
    """Take a command's argument from the end of ``queue`` and return it without its brackets; ``None`` if none is."""
    signs = [queue.pop()] if queue and queue[-1].text in ("-", "+") and not one_digit else []
    if not queue:
        return signs or None
    first = queue.pop()
    if first.text in ("{", "(") and (end := closing(queue[::-1])) is not None:
        inner = [queue.pop() for _ in range(end)]
        queue.pop()
        return [*signs, *inner]
    if one_digit and first.text.isdecimal() and len(first.text) > 1:
        queue.append(Token("number", first.text[1:]))
        first = Token("number", first.text[0])
    if first.kind == "command" and first.text in _ARGUMENTS and not nested:  # e^\frac12
        inner = [first]
        for _ in range(_ARGUMENTS[first.text]):
            inner += [LBRACE, *(_argument(queue, first.text != r"\sqrt", nested=True) or []), RBRACE]
        return [*signs, *inner]
    return [*signs, first]


def closing(tokens: Sequence[Token]) -> int | None:
    """Return the place of the bracket that closes the one before ``tokens``; any kind closes any: ``[0,1)``."""
    depth = 1
    for place, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0:
            return place
    return None


def in_index(tokens: Sequence[Token], place: int) -> bool:
    """Return whether a token stands in an index or in the argument of a named function: ``a_1``, ``f(3)``."""
    depth = 0
    for back in range(place - 1, -1, -1):
        token = tokens[back]
        depth += (token.kind == "close") - (token.kind == "open")
        if depth < 0:
            before = tokens[back - 1] if back else None
            return before is not None and (
                before.text == "_" or (token.text == "(" and before.kind in ("name", "close"))
            )
    return False
