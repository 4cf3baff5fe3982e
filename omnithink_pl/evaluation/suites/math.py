"""Mathematics suites: one class that reads a row by its columns, and a few constants for each data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import SuiteSource
from omnithink_pl.types import Example


def _plain(value: Any, where: str) -> str:
    return "" if value is None else str(value).strip()


def _after_hashes(value: Any, where: str) -> str:
    _, mark, gold = str(value).rpartition("####")
    if not mark:
        raise BadInput(f"{where}: 'answer' has no '####' before its result; mend or drop the row")
    return gold.strip().replace(",", "")


def _only_item(value: Any, where: str) -> str:
    if not isinstance(value, list) or len(value) != 1:
        cure = f"take the configuration {OlympiadBench.config}"
        raise BadInput(f"{where}: 'final_answer' is {value!r} and not a list of one text; {cure}")
    return _plain(value[0], where)


class MathSuite(SuiteSource):
    """A mathematics benchmark: rows with a question, possibly a ``context`` before it, and a gold answer."""

    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    uid: ClassVar[str | None] = None  # column with the identity; without one it is the row's place
    question: ClassVar[str] = "question"
    category: ClassVar[str | None] = None  # column by which scores are reported too
    gold: Callable[[Any, str], str] = staticmethod(_plain)  # reads the last column; takes the row's name for messages

    @final
    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """Return the problem with its gold answer."""
        uid = str(row[self.uid] if self.uid else index)
        where = f"{self.named}: row {index}" + (f" ({self.uid} {uid})" if self.uid else "")
        question = f"{row['context']}\n{row[self.question]}" if row.get("context") else row[self.question]
        category = row[self.category] or "" if self.category else ""
        return Example(task, uid, question, self.gold(row[self.columns[-1]], where), category=category)


@final
class AIME24(MathSuite):
    """AIME 2024 (Apache-2.0); answers are whole numbers from 0 to 999, some with leading zeros.

    A row: ``{"id": 60, "problem": "Every morning Aya goes ...", "answer": "204", ...}``.
    """

    hub, hub_split, size = "HuggingFaceH4/aime_2024", "train", 30
    columns = ("id", "problem", "answer")
    uid, question = "id", "problem"


@final
class AMC23(MathSuite):
    """AMC 2023. AI-MO/aimo-validation-amc, with 83 rows, is another set.

    A row: ``{"question": "Cities $A$ and $B$ are ...", "answer": 27.0, ...}``. The answer is a whole number written
    as a float, or the text of one.
    """

    hub, size = "math-ai/amc23", 40
    gold = staticmethod(lambda value, where: _plain(value, where).removesuffix(".0"))


@final
class Gaokao2023EN(MathSuite):
    """Gaokao 2023 in English: ``{"question": "If set $A=...", "answer": "$-1$", ...}``, often between dollar signs.

    Two golds are empty or unusable; published scores are shares of all rows, so the two stay in and count 0.
    """

    hub, hub_split, size = "MARIO-Math-Reasoning/Gaokao2023-Math-En", "train", 385
    without_gold = 2


@final
class GSM8K(MathSuite):
    r"""Grade-school problems (MIT; Cobbe et al. 2021). Not in the paper.

    A row: ``{"question": "Janet's ducks lay ...", "answer": "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 ...\n#### 18"}``.
    The gold follows ``####``, with commas between thousands.
    """

    hub, config, size = "openai/gsm8k", "main", 1319
    gold = staticmethod(_after_hashes)


@final
class Math500(MathSuite):
    r"""500 rows (Lightman et al. 2023) of MATH (Hendrycks et al. 2021, MIT), reported by subject.

    A row: ``{"problem": "Convert the point $(0,3)$ ...", "answer": "\left( 3, \frac{\pi}{2} \right)", "subject":
    "Precalculus", "unique_id": "test/precalculus/807.json", ...}``.
    """

    hub, size = "HuggingFaceH4/MATH-500", 500
    columns = ("unique_id", "subject", "problem", "answer")
    uid, question, category = "unique_id", "problem", "subject"


@final
class Minerva(MathSuite):
    r"""OCWCourses (Lewkowycz et al. 2022): ``{"question": "Each of the two Magellan ...", "answer": "7e-8"}``.

    An older copy has columns ``problem`` and ``solution`` with the gold in ``\boxed``: it is refused. The
    ``minerva_math`` of lm-eval is another benchmark (MATH). Many golds are rounded; they are compared without the
    tolerance of the original.
    """

    hub, size = "math-ai/minervamath", 272


@final
class OlympiadBench(MathSuite):
    """The text-only English competition problems of OlympiadBench (Apache-2.0).

    The hub's own copy has 674 rows. All scores of the paper are multiples of 1/675 (42.07 = 284/675, and no k/674 is
    near), so it had another copy: probably that of Qwen2.5-Math's evaluation code, which has 675. A file of 675 rows
    with the columns below is read too. Which row the hub's copy lacks is not known here; it is worth 0.15 points.

    A row: ``{"id": 1606, "question": "Let $T$ be ...", "context": null, "final_answer": ["2"], "error": null, ...}``.
    ``final_answer`` is a list of one text; several answers stand in it joined by commas and are compared as a set.
    The authors' judge grants the tolerance ``error`` of a row; ours does not.
    """

    hub, config, hub_split, size = "Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train", 674
    other_sizes = (675,)
    columns = ("id", "question", "context", "final_answer")
    uid = "id"
    gold = staticmethod(_only_item)
