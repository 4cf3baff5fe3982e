"""OpenR1-Math: word problems with a gold answer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.embedded import math
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.types import Completion, Example, Group, Outcome

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Row, Split
    from omnithink_pl.sources.curation import Candidate, Check


WORD_PROBLEM = "math-word-problem"
VERIFY_SECONDS = 20.0

# There is no column that says so: an image, a drawing program, a link, or a text that points at what is not there.
_VISUAL = re.compile(
    r"!\[|<img|\\includegraphics|\[asy\]|\\begin\{(tikzpicture|asy)\}|https?://|www\."
    r"|\b(figure|diagram|picture|graph|image|drawing)s?\s+(is\s+|are\s+|as\s+)?(shown|given|drawn|below|above|on the)"
    r"|\b(shown|depicted|pictured|illustrated|see)\s+(in|on|below|above)?\s*(the|this|fig)?\s*"
    r"\b(figure|diagram|picture|graph|image|drawing|fig\.)",
    re.IGNORECASE,
)


@final
class OpenR1Math(CuratedSource):
    """open-r1/OpenR1-Math-220k (Apache-2.0; configuration ``default``: 93.7k rows), or miniature rows of its shape.

    A row: ``{"problem": "Mia has 5 pens. ...", "solution": "...", "answer": "17", "problem_type": "Algebra",
    "question_type": "math-word-problem", "source": "olympiads", "uuid": "586fd646-...",
    "is_reasoning_complete": [true], "generations": ["<think>..."], "correctness_math_verify": [true],
    "correctness_llama": [true], "finish_reasons": ["stop"], "correctness_count": 1, "messages": [...]}``.
    Kept are word problems (not multiple choice, proofs and others) that need no picture, whose gold answer
    the math reward accepts as an answer to itself. The paper keeps 12,000.
    """

    columns: ClassVar[tuple[str, ...]] = ("uuid", "problem", "answer", "question_type", "problem_type")
    verified: ClassVar[bool] = True

    def embedded_rows(self, split: Split) -> list[Row]:
        """Miniature rows of the same schema."""
        return math.rows(split)

    def uid(self, row: Row) -> str:
        """The row's own."""
        return str(row["uuid"])

    def question(self, row: Row) -> str:
        """The problem."""
        return str(row["problem"])

    def identity(self, row: Row) -> str:
        """The problem."""
        return self.question(row)

    def category(self, row: Row) -> str:
        """Algebra, Geometry and so on."""
        return str(row["problem_type"])

    def selection(self) -> Mapping[str, Callable[[Row], bool]]:
        """Word problems that need no picture."""
        return {
            "not a word problem": lambda row: row["question_type"] == WORD_PROBLEM,
            "needs a picture": lambda row: not _VISUAL.search(row["problem"] or ""),
        }

    def defect(self, row: Row) -> tuple[str, str] | None:
        """A problem and an answer are needed."""
        if not (row["problem"] or "").strip():
            return "problem", "it is empty; give it a text or drop the row"
        if not str(row["answer"] or "").strip():
            return "answer", "it is empty; fill in the gold answer or drop the row"
        return None

    @contextmanager
    def checking(self) -> Iterator[Check]:
        """The gold must earn the reward that it is the gold of: parse, and equal itself."""
        from omnithink_pl.rewards.math import MathReward

        reward = MathReward(workers=os.cpu_count() or 1, timeout=VERIFY_SECONDS)

        def check(candidates: Sequence[Candidate]) -> list[str | None]:
            groups = [Group(self.example("math", c.row), (), (_answer(c.row),)) for c in candidates]
            return [
                _complaint(group.example, outcome)
                for group, (outcome,) in zip(groups, reward.score(groups), strict=True)
            ]

        try:
            yield check
        finally:
            reward.close()

    def example(self, task: str, row: Row) -> Example:
        """The problem with its gold answer."""
        return Example(task, self.uid(row), self.question(row), str(row["answer"]).strip())


def _complaint(example: Example, outcome: Outcome) -> str | None:
    return None if outcome.value == 1 else f"gold {example.reference!r}: {outcome.reason or 'not equal to itself'}"


def _answer(row: Row) -> Completion:
    return Completion((), (), f"<answer>{str(row['answer']).strip()}</answer>", "stop")
