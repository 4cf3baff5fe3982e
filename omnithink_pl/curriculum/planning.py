"""The order of tasks that is predicted to end best, from what training on each one alone did to all. Pure arithmetic.

Scores are fractions in [0, 1]; ``after[j, i]`` is the score on task i after training on task j alone, ``base[i]``
that of the base model. Under the *saturation assumption*, training on task i brings it to the same score
``after[i, i]`` wherever its stage stands, and every later stage j moves it by what j did to it from the base::

    final_i = after[i, i] + sum over j after i of (after[j, i] - base[i])

Nothing keeps a prediction within [0, 1]: one outside says that the assumption does not hold there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Order = tuple[int, ...]

EXHAUSTIVE = 7  # tasks up to which all orders are tried: 5040 of them


def effects(base: Array, after: Array) -> Array:
    """What training on task j did to task i, ``after - base``; positive is a gain.

    Args:
        base: Shape (..., tasks).
        after: Shape (..., source tasks, target tasks).

    Returns:
        Shape (..., source tasks, target tasks).
    """
    return after - base[..., None, :]


def predict(base: Array, after: Array, orders: Sequence[Order]) -> Array:
    """The final score of every task under every order.

    Args:
        base: Shape (..., tasks).
        after: Shape (..., source tasks, target tasks).
        orders: Permutations of the tasks' numbers, the first stage first.

    Returns:
        Shape (..., orders, tasks).
    """
    tasks = base.shape[-1]
    place = np.argsort(np.asarray(orders), axis=1)
    later = (place[:, :, None] > place[:, None, :]).astype(float)  # [order, j, i]: stage j comes after stage i
    own = np.diagonal(after, axis1=-2, axis2=-1)
    moved = np.einsum("oji,...ji->...oi", later, effects(base, after))
    return own[..., None, :] + moved.reshape(*base.shape[:-1], len(orders), tasks)


def candidates(base: Array, after: Array) -> list[Order]:
    """All orders of up to ``EXHAUSTIVE`` tasks; of more, one found by local search, and its reverse.

    The search inserts tasks at their best places until no move of one task gains anything, from the order of
    decreasing net effect on the others (what a late stage does harms nobody before it, so harmful tasks go first).
    It finds a local optimum, not always the best order: the linear ordering problem is NP-hard.
    """
    tasks = base.shape[-1]
    if tasks <= EXHAUSTIVE:
        return list(permutations(range(tasks)))
    effect = effects(base, after)
    net = effect.sum(axis=1) - effect.sum(axis=0)  # what it does to others, less what others do to it
    best = _local_search(tuple(int(task) for task in np.argsort(net)), effect)
    return [best, best[::-1]]


def _local_search(order: Order, effect: Array) -> Order:
    best, value = order, _gain(order, effect)
    improved = True
    while improved:
        improved = False
        for task in order:
            rest = [other for other in best if other != task]
            for place in range(len(order)):
                tried = (*rest[:place], task, *rest[place:])
                gain = _gain(tried, effect)
                if gain > value + 1e-12:
                    best, value, improved = tried, gain, True
    return best


def _gain(order: Order, effect: Array) -> float:
    """What all later stages together do to all earlier ones."""
    arranged = effect[np.ix_(order, order)]
    return float(np.tril(arranged, -1).sum())


Estimate = tuple[float, float, float]  # value, and the ends of its 95 % interval
Scores = tuple[Array, ...]  # of each benchmark of a task, or of its held-out prompts: shape (seeds, prompts)


@dataclass(frozen=True)
class Measured:
    """Scores by seed and prompt, from which the uncertainty of a plan follows.

    Args:
        tasks: Names of the tasks.
        base: For each target task the base model's scores; the plain mean over its benchmarks stands for it.
        after: The same for each source task and each target task. The benchmarks and prompts of a target are the same
            in all of its entries and in the same order.
    """

    tasks: tuple[str, ...]
    base: tuple[Scores, ...]
    after: tuple[tuple[Scores, ...], ...]

    def means(self) -> tuple[Array, Array]:
        """``base`` and ``after`` as means over seeds and prompts: shapes (tasks,) and (tasks, tasks)."""
        base = np.array([_by_seed(scores).mean() for scores in self.base])
        return base, np.array([[_by_seed(scores).mean() for scores in row] for row in self.after])

    def resampled(self, draws: int, seed: int) -> tuple[Array, Array]:
        """The same for bootstrap samples of the prompts and of the seeds.

        Prompts are drawn anew within each benchmark, for all policies at once. To the mean over the seeds comes the
        deviation of a bootstrap sample of the seeds, scaled so that its variance is that which the seeds have beyond
        what the noise of single answers gives them (analysis of variance with two crossed factors). Drawing both at
        once would count that noise three times (Owen 2007, "The Pigeonhole Bootstrap").

        Returns:
            Shapes (draws, tasks) and (draws, tasks, tasks).
        """
        generator = np.random.default_rng(seed)
        tasks = len(self.tasks)
        runs = [len(_by_seed(scores)) for scores in (self.base[0], *(row[0] for row in self.after))]
        seeds = [_weights(generator, number, draws) for number in runs]  # a run's seed is one draw for all targets
        result = np.empty((draws, 1 + tasks, tasks))
        for target in range(tasks):
            prompts = [_weights(generator, own.shape[1], draws) for own in self.base[target]]
            for source, scores in enumerate((self.base[target], *(row[target] for row in self.after))):
                by_seed = _by_seed(scores)
                deviation = seeds[source] @ by_seed - by_seed.mean()
                drawn = sum(chosen @ own.mean(axis=0) for chosen, own in zip(prompts, scores, strict=True))
                result[:, source, target] = drawn / len(scores) + _seed_scale(scores) * deviation
        return result[:, 0], result[:, 1:]


@dataclass(frozen=True)
class Forecast:
    """What is predicted of one order, with 95 % intervals.

    Args:
        order: The tasks' names, the first stage first.
        finals: Final score of each task, in the order of ``Plan.tasks``: value, low, high.
        mean: Mean of the final scores: value, low, high.
        behind: How far the mean is behind that of the best order: value, low, high. Negative is behind.
        best: Share of the bootstrap samples in which no order has a higher mean.
        within_noise: Whether the order may be the best one, at the 5 % level: multiple comparisons with the best (Hsu
            1984), which allows for the best one having been chosen by the same numbers.
    """

    order: tuple[str, ...]
    finals: tuple[Estimate, ...]
    mean: Estimate
    behind: Estimate
    best: float
    within_noise: bool


@dataclass(frozen=True)
class Plan:
    """The predicted outcome of every order, the best first.

    Args:
        tasks: Names of the tasks.
        effects: What training on a task (first index) did to a task (second index): value, low, high.
        forecasts: One for each order.
        exhaustive: Whether all orders were looked at.
    """

    tasks: tuple[str, ...]
    effects: tuple[tuple[Estimate, ...], ...]
    forecasts: tuple[Forecast, ...]
    exhaustive: bool

    def forecast(self, order: Sequence[str]) -> Forecast | None:
        """What is predicted of an order; ``None`` if it was not looked at."""
        return next((found for found in self.forecasts if found.order == tuple(order)), None)

    @property
    def undecided(self) -> list[Forecast]:
        """The orders that the measurements cannot tell from the best one, which is one of them."""
        return [found for found in self.forecasts if found.within_noise]


def plan(measured: Measured, draws: int = 2000, seed: int = 0, extra: Sequence[Sequence[str]] = ()) -> Plan:
    """Predict the outcome of the orders, and rank them by their mean final score.

    Args:
        measured: Scores of the base and of the single-task runs.
        draws: Bootstrap samples of seeds and prompts.
        seed: Of the bootstrap.
        extra: Orders to look at besides, where there are too many to look at all.
    """
    base, after = measured.means()
    number = {task: index for index, task in enumerate(measured.tasks)}
    found = [*candidates(base, after), *(tuple(number[task] for task in order) for order in extra)]
    orders = list(dict.fromkeys(found))
    finals = predict(base, after, orders)
    means = finals.mean(axis=-1)
    ranked = np.argsort(-means, kind="stable")
    base_draws, after_draws = measured.resampled(draws, seed)
    intervals: list[tuple[Estimate, ...]] = []
    mean_draws = np.empty((draws, len(orders)))
    for rank, index in enumerate(ranked):  # one at a time: all orders of seven tasks would fill the memory
        drawn = predict(base_draws, after_draws, [orders[index]])[:, 0]
        intervals.append(tuple(_estimate(finals[index, i], drawn[:, i]) for i in range(len(number))))
        mean_draws[:, rank] = drawn.mean(axis=-1)
    luck = mean_draws - means[ranked]
    tolerated = np.quantile(luck.max(axis=1, keepdims=True) - luck, 0.95, axis=0)
    leading = mean_draws >= mean_draws.max(axis=1, keepdims=True) - 1e-12
    forecasts = tuple(
        Forecast(
            order=tuple(measured.tasks[task] for task in orders[index]),
            finals=intervals[rank],
            mean=_estimate(means[index], mean_draws[:, rank]),
            behind=_estimate(means[index] - means[ranked[0]], mean_draws[:, rank] - mean_draws[:, 0]),
            best=float(leading[:, rank].mean()),
            within_noise=bool(means[ranked[0]] - means[index] <= tolerated[rank] + 1e-12),
        )
        for rank, index in enumerate(ranked)
    )
    return Plan(
        measured.tasks,
        _pairs(effects(base, after), effects(base_draws, after_draws)),
        forecasts,
        len(number) <= EXHAUSTIVE,
    )


def _pairs(effect: Array, drawn: Array) -> tuple[tuple[Estimate, ...], ...]:
    tasks = range(len(effect))
    return tuple(tuple(_estimate(effect[j, i], drawn[:, j, i]) for i in tasks) for j in tasks)


def _estimate(value: float, draws: Array) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(value), float(low), float(high)


def _weights(generator: np.random.Generator, number: int, draws: int) -> Array:
    """How often each of ``number`` things is drawn, as shares: shape (draws, number)."""
    return generator.multinomial(number, np.full(number, 1.0 / number), size=draws) / number


def _by_seed(scores: Scores) -> Array:
    """Mean over the benchmarks of the mean over their prompts: shape (seeds,)."""
    return np.mean([own.mean(axis=1) for own in scores], axis=0)


def _seed_scale(scores: Scores) -> float:
    """By what to scale the deviations of resampled seeds."""
    by_seed = _by_seed(scores)
    seeds = len(by_seed)
    if seeds < 2:
        return 0.0
    between = by_seed.var(ddof=1)
    noise = sum(_noise(own) for own in scores) / len(scores) ** 2
    share = max(0.0, 1.0 - noise / between) if between > 0.0 else 1.0
    return float(np.sqrt(share * seeds / (seeds - 1)))


def _noise(own: Array) -> float:
    """Variance of a seed's mean over the prompts that is due to the noise of single answers."""
    seeds, prompts = own.shape
    if prompts < 2:
        return 0.0
    residual = own - own.mean(axis=1, keepdims=True) - own.mean(axis=0) + own.mean()
    return float((residual**2).sum() / ((seeds - 1) * (prompts - 1) * prompts))
