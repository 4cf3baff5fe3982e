"""GSM8K: word problems of grade-school mathematics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example


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
