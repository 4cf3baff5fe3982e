"""Code blocks of Markdown as language models write it, which is laxer than CommonMark."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

FILE = "<answer>"
"""Name of a program's file in messages of the compiler."""

# Indentation, list markers or quotation signs, the fence, and a word for the language: "  1. ```python".
_OPENING = re.compile(r"(?P<margin>[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]+)*)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)")
# Prose before the fence, "The function: ```python": only where the language says that a block begins.
_LATE_OPENING = re.compile(r"[^`]*[^`\s][ \t]*(?P<margin>)(?P<fence>`{3,})[ \t]*(?P<info>(?:python|py)\d*)[ \t]*", re.I)
# The whole block in one line, "```print(1)```".
_ONE_LINE = re.compile(r"[ \t]*(?P<fence>`{3,})(?:(?:python|py)\d*[ \t]+)?(?P<code>[^`]+)(?P=fence)[ \t]*", re.I)
# Code behind the language, "```python def f(x):"; but "```python f.py" is a title.
_EARLY_CODE = re.compile(r"[ \t]*(?:python|py)\d*[ \t]+(?P<code>(?:async|class|def|from|import|@)\b.+)", re.I)
# A sentence, "This adds one.", "The `f` adds one.", "Sure!", "Note: this adds one."; a heading, "Usage:",
# "Example Usage:"; either in bold or as the item of a list; or a rule, "---". No code begins so and does not compile.
_WORD = r"[A-Z][\w'’-]*"
_SENTENCE = rf"{_WORD}(?:,? (?:[a-z]+\b|`)|!(?: |$)|:(?:\*\*|__)? \w+ [a-z])"
_HEADING = rf"{_WORD}:(?:\*\*|__)?[ \t]*$|(?!Class ){_WORD}(?: {_WORD})+:"
_PROSE = re.compile(
    rf"(?:(?:[-*+>]|\d+[.)]|#+)[ \t]+)*(?:(?:\*\*|__)?(?:{_SENTENCE}|{_HEADING})|`[^`])|[-*_=]{{3,}}[ \t]*$"
)
# The language alone in a block's first line, where its fence should have it.
_LANGUAGE = re.compile(r"\A\s*(?:python|py)\d*[ \t]*\n", re.I)
# "<code>", "<python>", "<pre><code>" instead of a fence, at the beginning of a line; "</code>" at the end of one.
_TAGS = r"(?:code|python|pre)"
_TAG = rf"<{_TAGS}(?: [^<>\n]*)?>"
_OPENING_TAGS = re.compile(rf"^[ \t]*{_TAG}(?:\s*{_TAG})*", re.I | re.M)
_CLOSING_TAGS = re.compile(rf"</{_TAGS}>(?:\s*</{_TAGS}>)*[ \t]*(?P<end>$)?", re.I | re.M)
# The last line of code that nothing has opened, "    return x```".
_CLOSED = re.compile(r"(?P<code>[^`]*[^`\s])[ \t]*`{3,}[ \t]*")
_QUOTATION = re.compile(r"^[ \t]*>[ \t]?", re.M)
_MODULE = re.compile(re.escape(FILE))
_DEEPEST = 3  # blocks in blocks
_SHORTEST_SENTENCE = 4  # words
_MOST_ENDINGS = 16  # lines that are tried as the end of one block


def code_blocks(text: str, depth: int = 0) -> Iterator[str]:
    """Yield the content of each fenced code block, in order, without the indentation of its list item.

    Where a block ends is Markdown's choice if it is Python then. Otherwise it is the first line with which it is: a
    fence that does not stand in a docstring, one at the end of a line of code, or the opening of the next block.
    A block that is no Python either way, but has blocks in it, is a document: its blocks are yielded.
    """
    lines, at = text.split("\n"), 0
    while at < len(lines):
        line, at = lines[at], at + 1
        if one_line := _ONE_LINE.fullmatch(line):
            yield one_line["code"].strip()
        elif opening := _OPENING.fullmatch(line) or _LATE_OPENING.fullmatch(line):
            content, at = _content(opening, lines, at)
            if depth < _DEEPEST and compile_error(content) and _has_fence(content):
                yield from code_blocks(content, depth + 1)
            else:
                yield content.removeprefix("\ufeff")


def loose_blocks(text: str) -> Iterator[str]:
    """Yield the code before the first fence, which may close what nothing has opened.

    It is one block without the prose around it or, where that is no Python, the pieces that prose leaves.
    """
    lead: list[str] = []
    for line in text.split("\n"):
        if _opens(line) or _ONE_LINE.fullmatch(line):
            break
        closed = _CLOSED.fullmatch(line)
        lead.append(closed["code"] if closed else line)
        if closed:
            break
    whole = without_prose("\n".join(lead))
    yield from _pieces(lead) if compile_error(whole) else [whole]


def with_fences(text: str) -> str:
    """Return a text with fences for ``<code>``, ``<python>`` and ``<pre>``."""
    opened = _OPENING_TAGS.sub("\n~~~python\n", text)
    return _CLOSING_TAGS.sub(lambda tags: tags[0] if tags["end"] is None else "\n~~~\n", opened)


def without_language(source: str) -> str:
    """Return a source without a first line that names the language and nothing else."""
    return _LANGUAGE.sub("", source)


def without_margin(source: str, width: int = 0) -> str:
    """Return a source without indentation that it has in common, or up to ``width`` of it, if it needs that."""
    if not source.strip("\n")[:1].isspace() or not compile_error(source):
        return source
    narrower = re.sub(rf"^[ \t]{{0,{width}}}", "", source, flags=re.M)  # text in a docstring may have less
    return next((one for one in (narrower, textwrap.dedent(source)) if not compile_error(one)), source)


def without_prose(text: str) -> str:
    """Return a text without the paragraphs around the code in it, if that needs it."""
    if not compile_error(text):
        return text
    paragraphs = re.split(r"\n(?:[ \t]*\n)+", text.strip("\n"))
    while paragraphs[1:] and _is_prose(paragraphs[-1]):
        del paragraphs[-1]
    while paragraphs and _is_prose(paragraphs[0]):
        rest = "\n\n".join([paragraphs[0].partition("\n")[2], *paragraphs[1:]])
        if rest.strip() and not compile_error(rest):  # a sentence without an empty line behind it
            return rest
        del paragraphs[0]
    code = without_margin("\n\n".join(paragraphs))
    return text if compile_error(code) else code


def _pieces(lines: Sequence[str]) -> Iterator[str]:
    """Yield what stands between lines of prose; these go on until an empty line, unless they end in a colon."""
    piece: list[str] = []
    in_prose, before = False, ""
    for line in lines:
        apart = not before.strip() or len(line.split()) >= _SHORTEST_SENTENCE  # "Return x" behind code is an error
        if apart and _is_prose(line):
            if piece:
                yield without_margin("\n".join(piece).strip("\n"))
            piece, in_prose = [], not line.rstrip(" \t*_").endswith(":")
        elif not (in_prose := in_prose and bool(line.strip())):
            piece.append(line)
        before = line
    yield without_margin("\n".join(piece).strip("\n"))


def _is_prose(paragraph: str) -> bool:
    line = paragraph.split("\n")[0]
    return bool(_PROSE.match(line)) and bool(compile_error(line))


def compile_error(source: str) -> str:
    """Return why Python does not compile a source; empty if it does."""
    _silence_compiler()
    return _compile_error(source)


def parse(source: str) -> ast.Module:
    """Parse a source that Python compiles, without a word about what is odd in it."""
    _silence_compiler()
    return ast.parse(source, FILE)


@lru_cache(maxsize=32)  # a block is looked at from several sides
def _compile_error(source: str) -> str:
    try:
        compile(source, FILE, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; nested too deeply
        return str(error) or type(error).__name__
    return ""


def _content(opening: re.Match[str], lines: Sequence[str], start: int) -> tuple[str, int]:
    """Return the content of the block whose first line is ``start``, and the number of the line after the block."""
    closing, others = _endings(opening["fence"], lines, start)
    early = _EARLY_CODE.fullmatch(opening["info"])

    def source(end: _Ending) -> str:
        text = "\n".join([*lines[start : end.stop], *([end.last] if end.last else [])])
        text = _QUOTATION.sub("", text) if ">" in opening["margin"] else text
        bare = without_margin(text, len(opening["margin"].expandtabs(4)))
        whole = f"{early['code']}\n{text}" if early else bare
        return bare if compile_error(whole) else whole

    for end in closing:
        why = compile_error(source(end))
        if not why:
            return source(end), end.after
        if "unterminated triple-quoted" not in why:
            break  # else the fence stands in a docstring, and the block goes on
    unlikely = next((end for end in others if not compile_error(source(end))), None)
    likeliest = next(filter(None, (unlikely, *closing, *others)), None)
    if likeliest is not None:
        return source(likeliest), likeliest.after
    return without_prose(source(_Ending(len(lines), "", len(lines)))), len(lines)


@dataclass(frozen=True)
class _Ending:
    """A place where a block may end."""

    stop: int  # the first line that is not whole in it
    last: str  # code on that line
    after: int  # the line where the text goes on


def _endings(fence: str, lines: Sequence[str], start: int) -> tuple[list[_Ending], list[_Ending]]:
    """Return the first lines that close a block in Markdown, and those that may although they do not."""
    closing: list[_Ending] = []
    others: list[_Ending] = []
    pattern = re.compile(rf"(?P<code>.*?)(?P<fence>{fence[0]}{{{len(fence)},}})(?P<text>[^{fence[0]}]*)")
    for number in range(start, len(lines)):
        found = pattern.fullmatch(lines[number])
        if found and found["code"].strip(" \t>"):
            others.append(_Ending(number, found["code"], number + 1))
        elif found and not found["text"].strip():
            closing.append(_Ending(number, "", number + 1))
        elif following := _OPENING.fullmatch(lines[number]):  # or another fence than the block began with
            others.append(_Ending(number, "", number if following["info"].strip() else number + 1))
        if max(len(closing), len(others)) == _MOST_ENDINGS:
            break
    return closing, others


def _has_fence(text: str) -> bool:
    return any(map(_opens, text.split("\n")))


def _opens(line: str) -> bool:
    return bool(_OPENING.fullmatch(line) or _LATE_OPENING.fullmatch(line))


def _silence_compiler() -> None:
    r"""Have Python say nothing of ``"\d"`` and the like in what a model wrote.

    Not with ``catch_warnings``, which no two threads may use at the same time.
    """
    for category in (SyntaxWarning, DeprecationWarning):
        if ("ignore", None, category, _MODULE, 0) not in warnings.filters:
            warnings.filterwarnings("ignore", category=category, module=_MODULE.pattern)
