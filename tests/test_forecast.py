"""How sure a plan is: intervals that hold the truth, and orders that cannot be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from omnithink_pl.curriculum.planning import Measured, plan

TASKS = ("code", "math", "qa")


def measured(
    base: list[float], after: list[list[float]], prompts: int = 200, seed: int = 0, spread: float = 0.0
) -> Measured:
    """Three seeds of 0/1 scores with these chances, which differ from seed to seed by ``spread``."""
    generator = np.random.default_rng(seed)

    def scores(chance: float) -> tuple[np.ndarray, ...]:
        chances = chance + generator.normal(0.0, spread, (3, 1))
        return ((generator.random((3, prompts)) < chances).astype(float),)

    return Measured(TASKS, tuple(map(scores, base)), tuple(tuple(map(scores, row)) for row in after))


# Writing over math with QA costs 0.3; everything else leaves the others alone.
BASE = [0.3, 0.4, 0.3]
HARMFUL = [[0.7, 0.4, 0.3], [0.3, 0.8, 0.3], [0.3, 0.1, 0.7]]
HARMLESS = [[0.7, 0.4, 0.3], [0.3, 0.8, 0.3], [0.3, 0.4, 0.7]]


def test_the_order_that_avoids_the_damage_is_found_and_the_others_are_behind_it() -> None:
    found = plan(measured(BASE, HARMFUL))
    for forecast in found.forecasts:
        after_math = forecast.order.index("qa") > forecast.order.index("math")
        assert forecast.within_noise != after_math, forecast
        if after_math:
            assert forecast.behind[0] == pytest.approx(-0.1, abs=0.04)
    assert found.effects[2][1] == pytest.approx((-0.3, -0.37, -0.23), abs=0.06)


def test_orders_that_differ_by_nothing_are_within_noise_though_one_was_chosen_as_the_best() -> None:
    shares = []
    for seed in range(40):
        found = plan(measured(BASE, HARMLESS, 60, seed), draws=200)
        shares.append(len(found.undecided) / len(found.forecasts))
        assert 0.99 < sum(forecast.best for forecast in found.forecasts) < 1.2  # ties count for both
    assert np.mean(shares) >= 0.9


@pytest.mark.parametrize("spread", [0.0, 0.08])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(spread: float) -> None:
    """Over repetitions of the whole experiment, with seeds that differ by luck alone or by much more."""
    held, widths = 0, []
    for seed in range(60):
        data = measured(BASE, HARMFUL, 100, seed, spread)
        forecast = plan(data, draws=200).forecast(("code", "math", "qa"))
        assert forecast is not None
        _, low, high = forecast.finals[1]
        held += low <= 0.8 - 0.3 <= high
        widths.append(high - low)
    assert held >= 48
    assert np.median(widths) < (0.25 if spread == 0.0 else 0.6)


def test_a_plan_is_the_same_again() -> None:
    data = measured(BASE, HARMFUL)
    assert plan(data, draws=100, seed=3) == plan(data, draws=100, seed=3)


def test_runs_may_differ_in_their_number_of_seeds() -> None:
    data = measured(BASE, HARMFUL)
    fewer = Measured(
        TASKS, data.base, (data.after[0], tuple((scores[0][:1],) for scores in data.after[1]), data.after[2])
    )
    assert plan(fewer, draws=100).forecasts[0].order.index("qa") < 2


def test_prompts_are_drawn_within_each_benchmark_of_a_task() -> None:
    """One seed: the effect on a task of a small and a large benchmark has the interval of a stratified mean."""
    generator = np.random.default_rng(5)
    before, after = (tuple((generator.random((1, n)) < p).astype(float) for n in (20, 300)) for p in (0.3, 0.6))
    found = plan(Measured(("math",), (before,), ((after,),))).effects[0][0]
    gained = [new - old for new, old in zip(after, before, strict=True)]
    reach = 1.96 * sum(one.var() / one.size / 4 for one in gained) ** 0.5
    assert found[0] == pytest.approx(np.mean([one.mean() for one in gained]))
    assert (found[2] - found[1]) / 2 == pytest.approx(reach, rel=0.08)
