"""What a row of the score matrix is logged as."""

from __future__ import annotations

from collections.abc import Sequence

from omnithink_pl.transfer import ScoreMatrix, backward_transfer, forgetting, mean


def evaluation_metrics(matrix: ScoreMatrix, trained: Sequence[Sequence[str]]) -> dict[str, float]:
    """The last row's scores, what was forgotten since row 0, and backward transfer.

    Args:
        matrix: Scores so far, with at least one row.
        trained: The tasks that each stage of the curriculum trains.

    Returns:
        Fractions in [0, 1] (differences in [-1, 1]) by metric name: ``eval/<task>`` is the score at
        temperature 1, ``eval/<task>/greedy`` the greedy one, ``forgetting/<task>`` is P_base - P_after. What needs
        the score of a task that was not measured is NaN: a mean over the others would be that of another set of tasks.
    """
    last = matrix.rows[-1]
    metrics = {"eval/unmeasured_tasks": float(sum(not score.measured for score in last.values()))}
    for task, score in last.items():
        metrics |= {
            f"eval/{task}": score.sampled,
            f"eval/{task}/low": score.sampled_low,
            f"eval/{task}/high": score.sampled_high,
            f"eval/{task}/greedy": score.greedy,
            f"eval/{task}/greedy_low": score.greedy_low,
            f"eval/{task}/greedy_high": score.greedy_high,
            f"eval/{task}/undefined": score.undefined,
            f"eval/{task}/failed": score.failed,
        }
    metrics["eval/mean"] = mean({task: score.sampled for task, score in last.items()})
    metrics["eval/mean/greedy"] = mean({task: score.greedy for task, score in last.items()})
    metrics |= _with_mean("forgetting", forgetting(matrix))
    metrics |= _with_mean("backward_transfer", backward_transfer(matrix, trained))
    return metrics


def _with_mean(prefix: str, values: dict[str, float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{prefix}/{task}": value for task, value in values.items()} | {f"{prefix}/mean": mean(values)}
