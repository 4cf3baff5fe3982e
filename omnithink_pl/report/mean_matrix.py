"""The score matrices of several seeds as one, and what was forgotten over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from omnithink_pl.report.estimates import Estimate, over_seeds
from omnithink_pl.transfer import Kind, ScoreMatrix, TaskScore, backward_transfer, forgetting, mean, mean_scores


def mean_matrix(matrices: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """Means over seeds, with Student's 95 % intervals over them, cut off at 0 and 1.

    Args:
        matrices: One per seed, of the same rows and tasks.

    Raises:
        ValueError: If there is none, or their rows differ.
    """
    if len({matrix.labels for matrix in matrices}) != 1:
        raise ValueError("a mean takes score matrices with the same rows, one at least")
    combined = ScoreMatrix()
    for row, label in enumerate(matrices[0].labels):
        scores = {task: [matrix.rows[row][task] for matrix in matrices] for task in matrices[0].tasks}
        combined = combined.add(label, {task: _mean(own) for task, own in scores.items()})
    return combined


def row_means(matrices: Sequence[ScoreMatrix], kind: Kind = "sampled") -> list[Estimate]:
    """Mean over the tasks of each row, over seeds with Student's 95 % interval.

    Args:
        matrices: As above.
        kind: ``sampled`` or ``greedy``.
    """
    by_seed = [mean_scores(matrix, kind) for matrix in matrices]
    return [over_seeds(values) for values in zip(*by_seed, strict=True)]


def mean_forgetting(matrices: Sequence[ScoreMatrix], kind: Kind = "sampled") -> dict[str, Estimate]:
    """Forgetting P_base - P_after of each task and of their ``mean``, over seeds with Student's 95 % interval.

    A seed's two rows are subtracted first, so that what a seed has in both of them is no part of the interval.

    Args:
        matrices: As above; at least two rows each.
        kind: ``sampled`` or ``greedy``.
    """
    return _over_seeds([forgetting(matrix, kind) for matrix in matrices])


def mean_loss(
    matrices: Sequence[ScoreMatrix], trained: Sequence[Sequence[str]], kind: Kind = "sampled"
) -> dict[str, Estimate]:
    """What is lost at the end of what a task had after its own stage, R_own - R_last, and the ``mean``.

    Backward transfer with the opposite sign, so that positive is lost as in ``mean_forgetting``; intervals likewise.

    Args:
        matrices: As above.
        trained: The tasks that each stage trained.
        kind: ``sampled`` or ``greedy``.

    Returns:
        Without the tasks of the last stage; empty if there are no others.
    """
    moved = [backward_transfer(matrix, trained, kind) for matrix in matrices]
    return _over_seeds([{task: -value for task, value in seed.items()} for seed in moved])


def _over_seeds(by_seed: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    if not by_seed[0]:
        return {}
    columns = {task: [seed[task] for seed in by_seed] for task in by_seed[0]}
    found = {name: over_seeds(own) for name, own in {**columns, "mean": [mean(seed) for seed in by_seed]}.items()}
    return {name: Estimate(one.value, max(-1.0, one.low), min(1.0, one.high)) for name, one in found.items()}


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
        undefined=fmean(score.undefined for score in scores),
        failed=fmean(score.failed for score in scores),
    )


def _low(estimate: Estimate) -> float:
    return max(0.0, estimate.low)


def _high(estimate: Estimate) -> float:
    return min(1.0, estimate.high)
