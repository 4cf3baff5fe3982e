"""What the metrics of benchmarks share: verdicts in, a mean with its interval out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from uuid import uuid4

import datasets
import evaluate

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.intervals import Interval

Verdicts = Sequence[Sequence[float]]
_INPUTS = """
Args:
    verdicts: For each prompt the scores in [0, 1] of its completions; empty where none could be scored.
    categories: For each prompt what it is reported under; empty text where nothing is.
"""


class VerdictMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """Summarises the verdicts of a benchmark.

    ``compute(verdicts=..., categories=...)`` gives the score under the metric's name, its 95 % interval as
    ``low`` and ``high``, further figures of the metric, and ``categories`` with the same for each. Prompts are the
    independent draws: see ``mean_interval``.
    """

    key: ClassVar[str]

    @abstractmethod
    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """The score under ``key``, and what else the metric has; prompts without a verdict left out."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "verdicts": datasets.Sequence(datasets.Value("float64")),
            "categories": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, verdicts: Verdicts, categories: Sequence[str]) -> dict[str, Any]:
        by_category: dict[str, list[Sequence[float]]] = {}
        rows = [[float(score) for score in scores] for scores in verdicts]
        for scores, category in zip(rows, categories, strict=True):
            if category and scores:
                by_category.setdefault(str(category), []).append(scores)
        return {
            **self.figures([scores for scores in rows if scores]),
            "categories": {name: self.figures(own)[self.key] for name, own in sorted(by_category.items())},
        }


def summarise(metric: type[VerdictMetric], verdicts: Verdicts, categories: Sequence[str]) -> dict[str, Any]:
    """Compute a metric without a trace: in memory, under an identity of its own.

    Args:
        metric: The metric.
        verdicts: As ``VerdictMetric.compute`` has it.
        categories: As long as ``verdicts``.

    Raises:
        BadInput: If no prompt has a verdict.
    """
    if not any(verdicts):
        raise BadInput("no completion has a verdict; see why the rewards failed")
    with TemporaryDirectory() as directory:
        found = metric(keep_in_memory=True, cache_dir=directory, experiment_id=uuid4().hex)
        rows = [[float(score) for score in scores] for scores in verdicts]
        return found.compute(verdicts=rows, categories=list(categories))
