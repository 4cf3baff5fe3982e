"""code-r1: programming problems with unit tests."""

from __future__ import annotations

import json
from typing import final

from omnithink_pl.rewards.code import reference_defect
from omnithink_pl.sandbox.base import parse_tests
from omnithink_pl.sources.base import Row
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Defect, ParsedRow


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

    def parse(self, row: Row) -> ParsedRow | Defect:
        """Return the user's message with the unit tests; the category is the kind of the tests."""
        uid = str(row["task_id"])
        question = "\n".join(turn["content"] or "" for turn in row["prompt"] or () if turn["role"] == "user")
        if not question.strip():
            return Defect(uid, "prompt", "it has no user's message; give it one or drop the row")
        column = "reward_model.ground_truth"
        try:
            tests = parse_tests(json.loads(row["reward_model"]["ground_truth"]) | {"entry_point": row["entry_point"]})
        except (ValueError, TypeError, KeyError) as error:
            return Defect(uid, column, f"it is not the JSON of unit tests ({error}); drop the row")
        if defect := reference_defect(tests):
            return Defect(uid, column, defect)
        return ParsedRow(uid, question, tests, "function" if tests.functional else "program")
