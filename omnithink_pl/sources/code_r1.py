"""code-r1: programming problems with unit tests."""

from __future__ import annotations

import json
from typing import final

from omnithink_pl.rewards.code import reference_defect
from omnithink_pl.sandbox.base import parse_tests
from omnithink_pl.sources.base import Row
from omnithink_pl.sources.cells import UnusableRow, as_text, list_of, optional_text_of, text_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import ParsedRow


@final
class CodeR1(CuratedSource):
    r"""ganler/code-r1-12k (no licence declared; 12,458 training rows).

    A row: ``{"task_id": "...", "prompt": [{"role": "system", ...}, {"role": "user", "content": "Write f(x)..."}],
    "entry_point": "f", "test": "...", "completion": "...", "examples": [{"input": "3", "output": "8"}],
    "src": "leetcode", "meta": {...}, "data_source": "code", "ability": "coding",
    "reward_model": {"ground_truth": "{\"functional\": \"def check(candidate): ...\"}", "style": "rule"},
    "extra_info": {"dataset": "...", "index": 0, "prompt": "...", "reference": "...", "split": "train"}}``.
    ``ground_truth`` is JSON: ``functional`` asserts, or ``inputs`` and ``outputs`` of a program.
    The row's own system prompt is dropped in favour of the task's. The paper drops prompts over 1024 tokens.
    """

    version = 2  # 2: tests compile
    columns = ("task_id", "prompt", "entry_point", "reward_model")
    id_column = "task_id"

    def parse(self, row: Row) -> ParsedRow:
        """Return the user's message with the unit tests; the category is the kind of the tests."""
        column = "reward_model.ground_truth"
        entry_point = {"entry_point": optional_text_of(row, "entry_point")}
        try:
            tests = parse_tests(json.loads(row["reward_model"]["ground_truth"]) | entry_point)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnusableRow(column, f"it is not the JSON of unit tests ({error}); drop the row") from error
        if defect := reference_defect(tests):
            raise UnusableRow(column, defect)
        return ParsedRow(text_of(row, "task_id"), _question(row), tests, "function" if tests.functional else "program")


def _question(row: Row) -> str:
    """Return the user's messages."""
    try:
        asked = [turn["content"] for turn in list_of(row, "prompt") if turn["role"] == "user"]
    except (TypeError, KeyError) as error:
        raise UnusableRow("prompt", f"it is no list of messages with role and content ({error!r})") from error
    if not asked:
        raise UnusableRow("prompt", "it has no user's message; give it one or drop the row")
    return "\n".join(as_text(text, "prompt") for text in asked)
