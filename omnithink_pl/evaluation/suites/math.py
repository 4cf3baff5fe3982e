"""Mathematics suites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import BenchmarkSource
from omnithink_pl.rewards.math import as_power_of_ten
from omnithink_pl.types import Example


@final
class AIME24(BenchmarkSource):
    """HuggingFaceH4/aime_2024 (Apache-2.0), split ``train``, 30 rows.

    A row: ``{"id": 60, "problem": "Every morning Aya goes ...", "solution": "...", "answer": "204", "url": "...",
    "year": "2024"}``. Answers are whole numbers from 0 to 999, some with leading zeros.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "HuggingFaceH4/aime_2024"
    hub_split: ClassVar[str] = "train"
    columns: ClassVar[tuple[str, ...]] = ("id", "problem", "answer")
    size: ClassVar[int] = 30

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its number."""
        return Example(task, str(row["id"]), row["problem"], str(row["answer"] or "").strip())


@final
class AMC23(BenchmarkSource):
    """math-ai/amc23, split ``test``, 40 rows. AI-MO/aimo-validation-amc, with 83 rows, is another set.

    A row: ``{"problem": "Cities $A$ and $B$ are ...", "answer": 27.0, "question": "...", "url": "..."}``. The answer
    is a float, or its text, and a whole number.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "math-ai/amc23"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    size: ClassVar[int] = 40

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its number; 27.0 is 27."""
        answer = str("" if row["answer"] is None else row["answer"]).strip()
        return Example(task, str(index), row["question"], answer.removesuffix(".0"))


@final
class Gaokao2023EN(BenchmarkSource):
    """MARIO-Math-Reasoning/Gaokao2023-Math-En, split ``train``, 385 rows.

    A row: ``{"question": "If set $A=...", "answer": "$-1$", "source": "...", "lang": "en"}``. The answer often stands
    between dollar signs. Two golds are empty or cannot be used; published scores are shares of all 385 rows, so the
    two stay in and count 0.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "MARIO-Math-Reasoning/Gaokao2023-Math-En"
    hub_split: ClassVar[str] = "train"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    size: ClassVar[int] = 385
    without_gold: ClassVar[int] = 2

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its gold; rows have no identity but their place."""
        return Example(task, str(index), row["question"], str(row["answer"] or "").strip())


@final
class GSM8K(BenchmarkSource):
    r"""openai/gsm8k (MIT), configuration ``main``, split ``test``, 1319 rows (Cobbe et al. 2021). Not in the paper.

    A row: ``{"question": "Janet's ducks lay ...", "answer": "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 ...\n#### 18"}``.
    The gold stands behind ``####``, with commas between thousands.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "openai/gsm8k"
    config: ClassVar[str | None] = "main"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    size: ClassVar[int] = 1319

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its number; rows have no identity but their place."""
        _, mark, gold = row["answer"].rpartition("####")
        if not mark:
            raise BadInput(f"{self.named}: row {index}: 'answer' has no '####' before its result; mend or drop the row")
        return Example(task, str(index), row["question"], gold.strip().replace(",", ""))


@final
class Math500(BenchmarkSource):
    r"""HuggingFaceH4/MATH-500, split ``test``, 500 rows (Lightman et al. 2023; MATH is Hendrycks et al. 2021, MIT).

    A row: ``{"problem": "Convert the point $(0,3)$ ...", "solution": "...", "answer": "\left( 3, \frac{\pi}{2}
    \right)", "subject": "Precalculus", "level": 2, "unique_id": "test/precalculus/807.json"}``. Subjects are reported.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "HuggingFaceH4/MATH-500"
    columns: ClassVar[tuple[str, ...]] = ("unique_id", "subject", "problem", "answer")
    size: ClassVar[int] = 500

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its gold."""
        answer = str(row["answer"] or "").strip()
        return Example(task, row["unique_id"], row["problem"], answer, category=row["subject"] or "")


@final
class Minerva(BenchmarkSource):
    r"""math-ai/minervamath, split ``test``, 272 rows (OCWCourses of Lewkowycz et al. 2022).

    A row: ``{"question": "Each of the two Magellan telescopes ...", "answer": "7e-8"}``. An older copy has columns
    ``problem`` and ``solution`` with the gold in ``\boxed``: it is refused. The ``minerva_math`` of lm-eval is
    another benchmark (MATH). Golds such as ``7e-8`` are read as powers of ten, and so are answers to them. Many golds
    are rounded; they are compared as math-verify does, which knows no tolerance of the source's.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "math-ai/minervamath"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    size: ClassVar[int] = 272

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its gold; rows have no identity but their place."""
        return Example(task, str(index), row["question"], as_power_of_ten(str(row["answer"] or "").strip()))


@final
class OlympiadBench(BenchmarkSource):
    """Hothan/OlympiadBench (Apache-2.0), configuration ``OE_TO_maths_en_COMP``, split ``train``, 674 rows.

    A row: ``{"id": 1606, "question": "Let $T$ be ...", "context": null, "final_answer": ["2"], "is_multiple_answer":
    false, "answer_type": "Numerical", "unit": null, "error": null, ...}``. ``final_answer`` is a list of one text;
    where there are several answers they stand in it, joined by commas, and are compared as a set. Some copies have
    675 rows. The authors' own judge grants the tolerance ``error`` where a row has one; here it is not granted.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "Hothan/OlympiadBench"
    config: ClassVar[str | None] = "OE_TO_maths_en_COMP"
    hub_split: ClassVar[str] = "train"
    columns: ClassVar[tuple[str, ...]] = ("id", "question", "context", "final_answer")
    size: ClassVar[int] = 674

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem, behind its context if it has one, with all its answers."""
        answers = row["final_answer"]
        if not isinstance(answers, list) or len(answers) != 1:
            raise BadInput(
                f"{self.named}: row {index} (id {row['id']}): 'final_answer' is {answers!r} and not a list of one "
                f"text; take the configuration {self.config}"
            )
        question = f"{row['context']}\n{row['question']}" if row["context"] else row["question"]
        return Example(task, str(row["id"]), question, str(answers[0] or "").strip())
