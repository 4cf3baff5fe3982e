"""Metrics of the suites, as an ``evaluate.Metric`` that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import comb
from tempfile import TemporaryDirectory
from typing import Any, final
from uuid import uuid4

import datasets
import evaluate

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.scorer import Interval, mean_interval

Verdicts = Sequence[Sequence[float]]  # per prompt, the scores in [0, 1] of its completions
KS = (1, 5, 10, 50, 100)  # the k of pass@k


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Estimate without bias the chance that at least one of k programs passes: 1 - C(n-c, k) / C(n, k).

    Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1.

    Args:
        n: Programs drawn, at least k.
        passed: Those that passed, c.
        k: Programs that are allowed.
    """
    if not 0 <= passed <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {passed} in {n} programs makes no sense")
    return 1.0 - comb(n - passed, k) / comb(n, k)


def _higher_pass_at_k(verdicts: Verdicts) -> dict[str, Interval]:
    """Return the mean of the per-prompt estimates, for every k that all prompts have samples for."""
    fewest = min(map(len, verdicts))
    return {
        f"pass_at_{k}": mean_interval([[pass_at_k(len(own), sum(map(bool, own)), k)] for own in verdicts])
        for k in KS[1:]
        if k <= fewest
    }


def _wins_and_ties(verdicts: Verdicts) -> dict[str, Interval]:
    """Return the shares of wins (FastChat's ``win_rate``) and of ties."""
    return {
        name: mean_interval([[float(verdict == value) for verdict in own] for own in verdicts])
        for name, value in {"raw": 1.0, "ties": 0.5}.items()
    }


# By name, the figures of a metric beside the mean score. `accuracy` with k samples per prompt is avg@k; `exact_match`
# is over all questions, the micro average of the categories; `win_rate` counts ties as 0.5 (`win_rate_adjusted`).
METRICS: Mapping[str, Callable[[Verdicts], dict[str, Interval]]] = {
    "accuracy": lambda verdicts: {},
    "exact_match": lambda verdicts: {},
    "pass_at_1": _higher_pass_at_k,
    "win_rate": _wins_and_ties,
}


@final
class VerdictMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """Mean verdict of a suite; ``config_name`` is one of ``METRICS``.

    ``compute(verdicts=..., categories=...)`` returns the mean score under the metric's name with its 95 % interval,
    further figures of the metric, and ``categories`` with the mean score of each. Prompts are the independent draws:
    see ``mean_interval``; those without a verdict are left out.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "verdicts": datasets.Sequence(datasets.Value("float64")),  # of a prompt; empty if none was scored
            "categories": datasets.Value("string"),  # empty where a prompt has none
        }
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=datasets.Features(features))

    def _compute(self, verdicts: Verdicts, categories: Sequence[str]) -> dict[str, Any]:
        scored = [(list(own), str(name)) for own, name in zip(verdicts, categories, strict=True) if own]
        rows = [own for own, _ in scored]
        names = sorted({name for _, name in scored if name})
        return {
            self.config_name: mean_interval(rows),
            **METRICS[self.config_name](rows),
            "categories": {one: mean_interval([own for own, name in scored if name == one]) for one in names},
        }


def summarise(metric: str, verdicts: Verdicts, categories: Sequence[str]) -> dict[str, Any]:
    """Compute a metric in memory, without leaving files in the cache of ``evaluate``.

    Raises:
        ValueError: If there is no such metric.
        BadInput: If no prompt has a verdict.
    """
    if metric not in METRICS:
        raise ValueError(f"a task's metric is one of {', '.join(METRICS)}, not {metric!r}")
    if not any(verdicts):
        raise BadInput("no completion has a verdict; see why the rewards failed")
    with TemporaryDirectory() as directory:
        # An id of its own: processes that compute at the same time must not share a lock file.
        found = VerdictMetric(metric, keep_in_memory=True, cache_dir=directory, experiment_id=uuid4().hex)
        rows = [[float(score) for score in scores] for scores in verdicts]
        return found.compute(verdicts=rows, categories=list(categories))
