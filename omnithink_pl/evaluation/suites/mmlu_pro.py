"""MMLU-Pro: multiple-choice questions of fourteen disciplines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import SuiteSource
from omnithink_pl.types import Example, Options

PADDING = "N/A"  # option of a question that has fewer than ten


@final
class MMLUPro(SuiteSource):
    """MMLU-Pro (MIT). The task's ``answer`` says whether the answer is an option's full text or its letter.

    A row: ``{"question_id": 70, "question": "Typical advertising regulatory bodies ...", "options": ["Safe practices,
    ...", ...], "answer": "I", "answer_index": 8, "category": "business", ...}``, with up to ten options; as in the
    official harness, options that are only ``N/A`` are left out. The score is the share of all questions (the micro
    average), and each of the 14 categories is reported. Asked zero-shot, where the official harness shows five
    examples, and with the options shuffled per question.
    """

    hub, size = "TIGER-Lab/MMLU-Pro", 12_032
    columns = ("question_id", "category", "question", "options", "answer", "answer_index")

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """Return the question with its options."""
        options, right = row["options"], row["answer_index"]
        if not 0 <= right < len(options) or "ABCDEFGHIJKLMNOP"[right] != row["answer"] or options[right] == PADDING:
            raise BadInput(
                f"{self.named}: row {index} (question_id {row['question_id']}): 'answer' {row['answer']!r} and "
                f"'answer_index' {right} do not name one of its {len(options)} options; take another revision"
            )
        texts = tuple(option for option in options if option != PADDING)
        reference = Options(texts, (options[right],))
        return Example(task, str(row["question_id"]), row["question"], reference, category=row["category"] or "")
