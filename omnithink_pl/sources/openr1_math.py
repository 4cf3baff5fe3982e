"""OpenR1-Math: word problems with a gold answer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, final

from omnithink_pl.sources.base import Row
from omnithink_pl.sources.cells import optional_text_of, text_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Candidate, Check, ParsedRow
from omnithink_pl.types import Completion, Example, Group

VERIFY_SECONDS = 20.0
OTHER_ANSWER = Completion((), (), "<answer>0</answer>", "stop")

# No column says that a problem needs a picture. Signs of one: an image, a drawing program, a link, or words that point
# at what is not there.
_VISUAL = re.compile(
    r"!\[|<img|\\includegraphics|\[asy\]|\\begin\{(tikzpicture|asy)\}|https?://|www\."
    r"|\b(figure|diagram|picture|graph|image|drawing)s?\s+(is\s+|are\s+|as\s+)?(shown|given|drawn|below|above|on the)"
    r"|\b(shown|depicted|pictured|illustrated|see)\s+(in|on|below|above)?\s*(the|this|fig)?\s*"
    r"\b(figure|diagram|picture|graph|image|drawing|fig\.)",
    re.IGNORECASE,
)


@contextmanager
def verified_golds() -> Iterator[Check]:
    """Yield a check that the math reward can read each gold.

    Each is asked about another answer: its own text would earn 1 whether it can be read or not.
    """
    from omnithink_pl.rewards.math import MathReward

    reward = MathReward(workers=os.cpu_count() or 1, timeout=VERIFY_SECONDS)

    def check(candidates: Sequence[Candidate]) -> list[str | None]:
        rows = [candidate.parsed for candidate in candidates]
        groups = [Group(Example("math", row.uid, row.question, row.reference), (), (OTHER_ANSWER,)) for row in rows]
        return [
            None if outcome.value is not None else f"gold {group.example.reference!r}: {outcome.reason}"
            for group, (outcome,) in zip(groups, reward.score(groups), strict=True)
        ]

    try:
        yield check
    finally:
        reward.close()


@final
class OpenR1Math(CuratedSource):
    """open-r1/OpenR1-Math-220k (Apache-2.0; configuration ``default``: 93.7k rows).

    A row: ``{"problem": "Mia has 5 pens. ...", "solution": "...", "answer": "17", "problem_type": "Algebra",
    "question_type": "math-word-problem", "source": "olympiads", "uuid": "586fd646-...",
    "is_reasoning_complete": [true], "generations": ["<think>..."], "correctness_math_verify": [true],
    "correctness_llama": [true], "finish_reasons": ["stop"], "correctness_count": 1, "messages": [...]}``.
    Kept are word problems (not multiple choice, proofs and others) that need no picture, whose gold answer
    the math reward can read. The paper keeps 12,000.
    """

    columns = ("uuid", "problem", "answer", "question_type", "problem_type")
    filters: ClassVar[Mapping[str, Callable[[Row], bool]]] = {
        "not a word problem": lambda row: row["question_type"] == "math-word-problem",
        "needs a picture": lambda row: not _VISUAL.search(optional_text_of(row, "problem")),
    }
    id_column = "uuid"
    version = 2
    verifier = staticmethod(verified_golds)

    def parse(self, row: Row) -> ParsedRow:
        """Return the problem with its gold answer; the category is Algebra, Geometry and so on."""
        problem, answer = text_of(row, "problem"), text_of(row, "answer").strip()
        return ParsedRow(text_of(row, "uuid"), problem, answer, str(row["problem_type"]))
