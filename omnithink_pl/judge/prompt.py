"""What a language model that judges is asked, and how its reply is read."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal, get_args

from omnithink_pl.errors import BadInput
from omnithink_pl.types import Message

Letter = Literal["A", "B", "C"]

REMINDER = (
    "Your reply does not end with a verdict. Reply with one line and nothing else: "
    "[[A]] if answer A is better, [[B]] if answer B is better, [[C]] if neither is."
)
_DIVIDER = "\n=====\n"
_FIELDS = {"fence", "question", "answer_a", "answer_b"}
_VERDICT = re.compile(rf"\[\[({'|'.join(get_args(Letter))})\]\]")


@dataclass(frozen=True)
class PairwisePrompt:
    """A prompt in two parts, the system's and the user's, from a file whose name is its version.

    A changed wording is another file: verdicts given under one wording are not comparable with those under another.

    Args:
        version: Name of the file without its suffix.
        text: Its contents: two templates with ``${fence}``, ``${question}``, ``${answer_a}`` and ``${answer_b}``,
            divided by a line of ``=====``.
    """

    version: str
    text: str

    @classmethod
    def load(cls, name: str) -> PairwisePrompt:
        """Read a prompt of this package by its version, or any other by its path.

        Raises:
            BadInput: If there is no such file, or it lacks a part or a field.
        """
        packaged = files("omnithink_pl.judge") / "prompts" / f"{name}.txt"
        source = Path(str(packaged)) if packaged.is_file() else Path(name).expanduser()
        if not source.is_file():
            raise BadInput(f"judge.prompt: no prompt {name!r} in the package and no such file; use pairwise_v1")
        text = source.read_text(encoding="utf-8")
        missing = {field for field in _FIELDS if f"${{{field}}}" not in text}
        if missing or text.count(_DIVIDER) != 1:
            raise BadInput(
                f"judge.prompt: {source} needs two parts divided by a line of ===== and the fields "
                f"{', '.join(f'${{{field}}}' for field in sorted(_FIELDS))}"
            )
        return cls(source.stem, text)

    @property
    def identity(self) -> str:
        """Tells prompts apart, a file that was edited in place too."""
        return f"{self.version}:{hashlib.sha256(self.text.encode()).hexdigest()[:16]}"

    def messages(self, question: str, answer_a: str, answer_b: str) -> list[Message]:
        """The chat in which the judge is asked.

        The three texts stand between markers that none of them can contain, for the marker is made from their
        hash, and what looks like a verdict in them is written otherwise, lest the judge quote it as its own.
        """
        texts = [question, answer_a, answer_b]
        fence = "#" + hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
        question, answer_a, answer_b = map(_without_verdicts, texts)
        system, _, user = self.text.partition(_DIVIDER)
        # One pass: a ${field} inside a text is left alone.
        fields = {"fence": fence, "question": question, "answer_a": answer_a, "answer_b": answer_b}
        return [
            {"role": "system", "content": Template(system).substitute(fields).strip()},
            {"role": "user", "content": Template(user).substitute(fields).strip()},
        ]


@dataclass(frozen=True)
class PairwisePrompts:
    """The prompt for single answers, and that for conversations, where the last answer is judged."""

    single: PairwisePrompt
    conversation: PairwisePrompt

    @classmethod
    def load(cls, single: str, conversation: str) -> PairwisePrompts:
        """Read both; see ``PairwisePrompt.load``."""
        return cls(PairwisePrompt.load(single), PairwisePrompt.load(conversation))

    def of(self, turns: int) -> PairwisePrompt:
        """The prompt for a conversation of so many turns."""
        return self.single if turns == 1 else self.conversation


def _without_verdicts(text: str) -> str:
    return re.sub(r"\[\s*\[(\s*[A-Za-z]\s*)\]\s*\]", r"(\1)", text)


def parse_verdict(reply: str) -> Letter | None:
    """The verdict in the last line of a reply; ``None`` unless that line has exactly one.

    Verdicts in other lines do not count: a judge may weigh one answer, or quote it, before it decides.
    """
    lines = reply.strip().splitlines()
    found = _VERDICT.findall(lines[-1]) if lines else []
    return found[0] if len(found) == 1 else None
