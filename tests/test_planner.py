"""The planner against an implementation that follows the words: stage by stage, in plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from omnithink_pl.curriculum.planning import EXHAUSTIVE, candidates, effects, predict


def measured(tasks: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(0.2, 0.5, tasks), generator.uniform(0.1, 0.9, (tasks, tasks))


def walked(base: np.ndarray, after: np.ndarray, order: tuple[int, ...]) -> list[float]:
    """Trains through the stages: a stage saturates its own task, and moves those that were trained before."""
    scores: dict[int, float] = {}
    for stage in order:
        for task in scores:
            scores[task] += after[stage][task] - base[task]
        scores[stage] = after[stage][stage]
    return [scores[task] for task in range(len(base))]


@pytest.mark.parametrize("tasks", [1, 2, 4, 5])
def test_every_order_is_predicted_as_when_walked_through(tasks: int) -> None:
    base, after = measured(tasks, tasks)
    orders = list(itertools.permutations(range(tasks)))
    assert predict(base, after, orders) == pytest.approx(np.array([walked(base, after, order) for order in orders]))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_all_orders_is_the_best_by_brute_force(seed: int) -> None:
    base, after = measured(4, seed)
    found = candidates(base, after)
    best = found[int(predict(base, after, found).mean(axis=-1).argmax())]
    assert best == max(itertools.permutations(range(4)), key=lambda order: sum(walked(base, after, order)))
    assert len(set(found)) == 24


def test_what_training_did_to_others_is_after_minus_base() -> None:
    base, after = np.array([0.5, 0.3]), np.array([[0.9, 0.2], [0.6, 0.8]])
    assert effects(base, after) == pytest.approx(np.array([[0.4, -0.1], [0.1, 0.5]]))
    # The last stage keeps what it reached; the first loses or gains what the second does to it.
    assert predict(base, after, [(0, 1), (1, 0)]) == pytest.approx(np.array([[1.0, 0.8], [0.9, 0.7]]))


def test_samples_are_predicted_each_by_itself() -> None:
    many = [measured(3, seed) for seed in range(4)]
    orders = list(itertools.permutations(range(3)))
    together = predict(np.stack([base for base, _ in many]), np.stack([after for _, after in many]), orders)
    assert together == pytest.approx(np.stack([predict(base, after, orders) for base, after in many]))


def test_beyond_the_limit_no_move_of_one_task_is_better_than_what_the_search_found() -> None:
    base, after = measured(EXHAUSTIVE + 2, 3)
    best = candidates(base, after)[0]
    reached = sum(walked(base, after, best))
    for task, place in itertools.product(best, range(len(best))):
        rest = [other for other in best if other != task]
        moved = (*rest[:place], task, *rest[place:])
        assert sum(walked(base, after, moved)) <= reached + 1e-9
