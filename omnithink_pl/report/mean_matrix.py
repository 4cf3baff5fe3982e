"""The score matrices of several seeds as one."""

from __future__ import annotations

from collections.abc import Sequence

from omnithink_pl.report.estimates import Estimate, over_seeds
from omnithink_pl.transfer import ScoreMatrix, TaskScore


def mean_matrix(matrices: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """Means over seeds, with Student's 95 % intervals over them, cut off at 0 and 1.

    Args:
        matrices: One per seed, of the same rows and tasks.

    Raises:
        ValueError: If there is none, or their rows differ.
    """
    if len({matrix.labels for matrix in matrices}) != 1:
        raise ValueError("a mean takes score matrices with the same rows, one at least")
    mean = ScoreMatrix()
    for row, label in enumerate(matrices[0].labels):
        scores = {task: [matrix.rows[row][task] for matrix in matrices] for task in matrices[0].tasks}
        mean = mean.add(label, {task: _mean(own) for task, own in scores.items()})
    return mean


def _mean(scores: Sequence[TaskScore]) -> TaskScore:
    sampled = over_seeds([score.sampled for score in scores])
    greedy = over_seeds([score.greedy for score in scores])
    return TaskScore(
        sampled=sampled.value,
        sampled_low=_low(sampled),
        sampled_high=_high(sampled),
        greedy=greedy.value,
        greedy_low=_low(greedy),
        greedy_high=_high(greedy),
        prompts=scores[0].prompts,
        samples=scores[0].samples,
    )


def _low(estimate: Estimate) -> float:
    return max(0.0, estimate.low)


def _high(estimate: Estimate) -> float:
    return min(1.0, estimate.high)
