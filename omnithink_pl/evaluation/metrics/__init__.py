"""``evaluate.Metric`` subclasses that work offline; each score comes with its 95 % interval."""

from omnithink_pl.evaluation.metrics.accuracy import Accuracy
from omnithink_pl.evaluation.metrics.base import VerdictMetric, summarise
from omnithink_pl.evaluation.metrics.exact_match import ExactMatch
from omnithink_pl.evaluation.metrics.pass_at_k import PassAtK
from omnithink_pl.evaluation.metrics.win_rate import WinRate

__all__ = ["Accuracy", "ExactMatch", "PassAtK", "VerdictMetric", "WinRate", "metric_called", "summarise"]


def metric_called(name: str) -> type[VerdictMetric]:
    """The metric that a task names."""
    metrics: tuple[type[VerdictMetric], ...] = (Accuracy, ExactMatch, PassAtK, WinRate)
    for metric in metrics:
        if metric.key == name:
            return metric
    raise ValueError(f"a task's metric is one of {', '.join(m.key for m in metrics)}, not {name!r}")
