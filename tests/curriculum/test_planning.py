"""The saturation model against plain loops; intervals that hold the truth, and orders that cannot be told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from omnithink_pl.curriculum.planning import (
    EXHAUSTIVE,
    TransferScores,
    candidate_orders,
    plan,
    predict_final_scores,
    transfer_effects,
)


def random_scores(tasks: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(0.2, 0.5, tasks), generator.uniform(0.1, 0.9, (tasks, tasks))


def simulated(base: np.ndarray, after: np.ndarray, order: tuple[int, ...]) -> list[float]:
    """Stage by stage: a stage saturates its own task, and changes those that were trained before."""
    scores: dict[int, float] = {}
    for stage in order:
        for task in scores:
            scores[task] += after[stage][task] - base[task]
        scores[stage] = after[stage][stage]
    return [scores[task] for task in range(len(base))]


@pytest.mark.parametrize("tasks", [1, 2, 4, 5])
def test_every_order_of_every_sample_is_predicted_as_when_simulated(tasks: int) -> None:
    samples = [random_scores(tasks, seed) for seed in range(3)]
    orders = list(itertools.permutations(range(tasks)))
    expected = [[simulated(base, after, order) for order in orders] for base, after in samples]
    base, after = map(np.stack, zip(*samples, strict=True))
    assert predict_final_scores(base, after, orders) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_all_orders_is_the_best_by_brute_force(seed: int) -> None:
    base, after = random_scores(4, seed)
    found = candidate_orders(base, after)
    best = found[int(predict_final_scores(base, after, found).mean(axis=-1).argmax())]
    assert best == max(itertools.permutations(range(4)), key=lambda order: sum(simulated(base, after, order)))
    assert len(set(found)) == 24


def test_what_training_did_to_others_is_after_minus_base() -> None:
    base, after = np.array([0.5, 0.3]), np.array([[0.9, 0.2], [0.6, 0.8]])
    assert transfer_effects(base, after) == pytest.approx(np.array([[0.4, -0.1], [0.1, 0.5]]))
    # The last stage keeps what it reached; the first loses or gains what the second does to it.
    assert predict_final_scores(base, after, [(0, 1), (1, 0)]) == pytest.approx(np.array([[1.0, 0.8], [0.9, 0.7]]))


def test_beyond_the_limit_no_move_of_one_task_is_better_than_what_the_search_found() -> None:
    base, after = random_scores(EXHAUSTIVE + 2, 3)
    best = candidate_orders(base, after)[0]
    reached = sum(simulated(base, after, best))
    for task, place in itertools.product(best, range(len(best))):
        rest = [other for other in best if other != task]
        moved = (*rest[:place], task, *rest[place:])
        assert sum(simulated(base, after, moved)) <= reached + 1e-9


TASKS = ("code", "math", "qa")


def measured(
    base: list[float], after: list[list[float]], prompts: int = 200, seed: int = 0, spread: float = 0.0
) -> TransferScores:
    """Three seeds of 0/1 scores with these chances, which differ from seed to seed by ``spread``."""
    generator = np.random.default_rng(seed)

    def scores(chance: float) -> tuple[np.ndarray, ...]:
        chances = chance + generator.normal(0.0, spread, (3, 1))
        return ((generator.random((3, prompts)) < chances).astype(float),)

    return TransferScores(TASKS, tuple(map(scores, base)), tuple(tuple(map(scores, row)) for row in after))


# Writing over math with QA costs 0.3; everything else leaves the others alone.
BASE = [0.3, 0.4, 0.3]
HARMFUL = [[0.7, 0.4, 0.3], [0.3, 0.8, 0.3], [0.3, 0.1, 0.7]]
HARMLESS = [[0.7, 0.4, 0.3], [0.3, 0.8, 0.3], [0.3, 0.4, 0.7]]


def test_the_order_that_avoids_the_damage_is_found_and_the_others_are_behind_it() -> None:
    found = plan(measured(BASE, HARMFUL))
    for prediction in found.predictions:
        after_math = prediction.order.index("qa") > prediction.order.index("math")
        assert prediction.within_noise != after_math, prediction
        if after_math:
            assert prediction.behind.value == pytest.approx(-0.1, abs=0.04)
    harm = found.effects[2][1]
    assert (harm.value, harm.low, harm.high) == pytest.approx((-0.3, -0.37, -0.23), abs=0.06)


def test_orders_that_differ_by_nothing_are_within_noise_though_one_was_chosen_as_the_best() -> None:
    shares = []
    for seed in range(40):
        found = plan(measured(BASE, HARMLESS, 60, seed), draws=200)
        shares.append(len(found.within_noise) / len(found.predictions))
        assert 0.99 < sum(prediction.best for prediction in found.predictions) < 1.2  # ties count for both
    assert np.mean(shares) >= 0.9


@pytest.mark.parametrize("spread", [0.0, 0.08])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(spread: float) -> None:
    """Over repetitions of the whole experiment, with seeds that differ by luck alone or by much more."""
    held, widths = 0, []
    for seed in range(60):
        data = measured(BASE, HARMFUL, 100, seed, spread)
        final = next(one for one in plan(data, draws=200).predictions if one.order == TASKS).finals[1]
        held += final.low <= 0.8 - 0.3 <= final.high
        widths.append(final.high - final.low)
    assert held >= 48
    assert np.median(widths) < (0.25 if spread == 0.0 else 0.6)


def test_a_plan_is_the_same_again_and_its_runs_may_differ_in_their_number_of_seeds() -> None:
    data = measured(BASE, HARMFUL)
    assert plan(data, draws=100, seed=3) == plan(data, draws=100, seed=3)
    code, math, qa = data.after
    fewer = TransferScores(TASKS, data.base, (code, tuple((scores[0][:1],) for scores in math), qa))
    assert plan(fewer, draws=100).predictions[0].order.index("qa") < 2


def test_prompts_are_drawn_within_each_benchmark_of_a_task() -> None:
    """One seed: the effect on a task of a small and a large benchmark has the interval of a stratified mean."""
    generator = np.random.default_rng(5)
    before, after = (tuple((generator.random((1, n)) < p).astype(float) for n in (20, 300)) for p in (0.3, 0.6))
    found = plan(TransferScores(("math",), (before,), ((after,),))).effects[0][0]
    gained = [new - old for new, old in zip(after, before, strict=True)]
    reach = 1.96 * sum(one.var() / one.size / 4 for one in gained) ** 0.5
    assert found.value == pytest.approx(np.mean([one.mean() for one in gained]))
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=0.08)
