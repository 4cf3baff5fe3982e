"""LiveCodeBench: problems of programming contests, by the date of the contest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.benchmarks.livecodebench_tests import read_tests
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example


@final
class LiveCodeBench(BenchmarkSource):
    r"""lighteval/code_generation_lite, configuration ``release_v5``, split ``test``, 880 rows (Jain et al. 2024).

    A mirror in parquet: the official loader is a script, which ``datasets`` no longer runs. A row:
    ``{"question_title": "...", "question_content": "...", "platform": "leetcode", "question_id": "3566",
    "contest_id": "...", "contest_date": "2024-10-05T00:00:00", "starter_code": "class Solution: ...", "difficulty":
    "easy", "public_test_cases": "[{...}]", "private_test_cases": "eJx...", "metadata": "{\"func_name\": \"f\"}"}``.
    Difficulties are reported.

    The official harness compares live objects in the interpreter of the tested program, with 6 seconds a test;
    here expected outputs never meet the program, the time is the sandbox's for all tests together, and where
    numbers are printed, 1e-6 is tolerated as on contest sites, where the official one compares decimals exactly.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
        first: First day of contests, such as ``2024-10-01``.
        last: Last day of contests.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "lighteval/code_generation_lite"
    config: ClassVar[str | None] = "release_v5"
    columns: ClassVar[tuple[str, ...]] = (
        "question_id",
        "question_content",
        "starter_code",
        "contest_date",
        "difficulty",
        "public_test_cases",
        "private_test_cases",
        "metadata",
    )
    size: ClassVar[int] = 880

    def __init__(
        self,
        path: str | None = None,
        revision: str | None = None,
        first: str = "2024-10-01",
        last: str = "2025-01-31",
    ) -> None:
        super().__init__(path, revision)
        try:
            self.days = (date.fromisoformat(first), date.fromisoformat(last))
        except ValueError as error:
            raise BadInput(f"LiveCodeBench: first={first!r} or last={last!r} is no day; write 2024-10-01") from error

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example | None:
        """The problem with its tests, if its contest was in time."""
        where = f"{self.named}: row {index} ({row['question_id']})"
        if not self.days[0] <= _day(row["contest_date"], where) <= self.days[1]:
            return None
        tests = read_tests(row, where)
        starter = row["starter_code"] or ""
        question = row["question_content"] + (
            f"\n\nUse this code:\n{starter}"
            if starter.strip()
            else "\n\nRead from standard input and print the result."
        )
        return Example(task, str(row["question_id"]), question, tests, category=row["difficulty"] or "")


def _day(value: object, where: str) -> date:
    """The day of a contest, which arrives as text or as a timestamp."""
    if isinstance(value, datetime):
        return value.date()
    try:
        return datetime.fromisoformat(str(value)).date()
    except ValueError as error:
        raise BadInput(f"{where}: 'contest_date' is {value!r}, no date; take another revision") from error
