"""The protocol of a judge, its prompt, and the position swap."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from omnithink_pl.errors import BadInput
from omnithink_pl.types import Message

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rewards.base import Awaits
    from omnithink_pl.rollout.base import RolloutEngine


class Preference(Enum):
    """A pairwise verdict, as the paper's reward for the candidate."""

    WIN = 1.0
    TIE = 0.5
    LOSS = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate answer against a reference answer to the same prompt.

    Args:
        prompt: What was asked; of a conversation, all questions.
        candidate: The answer; of a conversation, all of it.
        reference: As the candidate.
        turns: Of the conversation, which is judged by its last answer.
    """

    prompt: str
    candidate: str
    reference: str
    turns: int = 1


class JudgeUnavailable(RuntimeError):
    """The judge could not say; the reward of this comparison is *failed*, not 0.

    Args:
        detail: What happened.
        cause: One of a few phrases, by which failures are counted.
    """

    def __init__(self, detail: str, cause: str = "unavailable") -> None:
        super().__init__(detail)
        self.cause = cause


class Judge(Protocol):
    """Compares answers pairwise."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """One preference, or why there is none, per comparison, in order."""
        ...

    def close(self) -> None:
        """Release connections. Safe to call twice."""
        ...


@runtime_checkable
class MeasuredJudge(Judge, Protocol):
    """A judge that keeps statistics of its own verdicts."""

    def metrics(self) -> dict[str, float]:
        """What it measured since it was last asked, by name."""
        ...


@runtime_checkable
class ScheduledJudge(Judge, Protocol):
    """A judge that says what has to be there before it is asked; others are taken to compare a batch's prompts."""

    awaits: Awaits


@runtime_checkable
class AttachedJudge(Judge, Protocol):
    """A judge that may ask the policy that is trained."""

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Take the policy and the engine that samples from it. Called once, before training."""
        ...


_CANDIDATE_FIRST = {"A": Preference.WIN, "B": Preference.LOSS, "C": Preference.TIE}
_REFERENCE_FIRST = {"A": Preference.LOSS, "B": Preference.WIN, "C": Preference.TIE}


@dataclass(frozen=True)
class Round:
    """One comparison in one order.

    Args:
        comparison: What is compared.
        candidate_first: Whether the candidate is answer A.
    """

    comparison: Comparison
    candidate_first: bool

    def messages(self, prompt: PairwisePrompt) -> list[Message]:
        """What the judge is asked."""
        answers = (self.comparison.candidate, self.comparison.reference)
        return prompt.messages(self.comparison.prompt, *(answers if self.candidate_first else answers[::-1]))

    def key(self, judge: str, prompt: PairwisePrompt) -> str:
        """Identity of the question: judge, prompt version, request, both answers and their order."""
        comparison = self.comparison
        parts = [judge, prompt.identity, comparison.prompt, comparison.candidate, comparison.reference]
        return hashlib.sha256(json.dumps([*parts, self.candidate_first]).encode()).hexdigest()

    def preference(self, letter: Letter) -> Preference:
        """What a verdict means for the candidate."""
        return (_CANDIDATE_FIRST if self.candidate_first else _REFERENCE_FIRST)[letter]


@dataclass(frozen=True)
class Judged:
    """A comparison with what came of its two rounds.

    Args:
        comparison: What was compared.
        rounds: The preference in each order, or why there is none.
    """

    comparison: Comparison
    rounds: tuple[Preference | JudgeUnavailable, Preference | JudgeUnavailable]

    @property
    def verdict(self) -> Preference | JudgeUnavailable:
        """What both orders say; a tie where they disagree (FastChat's rule, the paper's 0.5)."""
        first, second = self.rounds
        if isinstance(first, JudgeUnavailable):
            return first
        if isinstance(second, JudgeUnavailable):
            return second
        return first if first is second else Preference.TIE

    @property
    def flipped(self) -> bool:
        """Whether the verdict depends on the order."""
        return not isinstance(self.verdict, JudgeUnavailable) and self.rounds[0] is not self.rounds[1]


def judge_both_orders(
    comparisons: Sequence[Comparison],
    ask: Callable[[list[Round]], list[Letter | JudgeUnavailable]],
) -> list[Judged]:
    """Put every comparison to a judge in both orders, each distinct one once.

    Args:
        comparisons: In any number and order, with repetitions.
        ask: Called once, with all rounds; one verdict, or why there is none, per round.

    Returns:
        One result per comparison, in order.
    """
    rounds = [Round(comparison, first) for comparison in dict.fromkeys(comparisons) for first in (True, False)]
    said: dict[Round, Preference | JudgeUnavailable] = {}
    for one, letter in zip(rounds, ask(rounds) if rounds else [], strict=True):
        said[one] = letter if isinstance(letter, JudgeUnavailable) else one.preference(letter)
    return [Judged(c, (said[Round(c, True)], said[Round(c, False)])) for c in comparisons]


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
