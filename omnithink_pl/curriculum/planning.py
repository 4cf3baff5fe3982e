"""Predict the final scores of every order of stages from single-task runs, and rank the orders. Pure arithmetic.

The paper's own rule needs no prediction: see ``forgettability.py``, whose order stands beside the best one.

Scores are fractions in [0, 1]; ``after[j, i]`` is the score on task i after training on task j alone, ``base[i]``
that of the base model. The *saturation model* assumes that training on task i brings it to the same score
``after[i, i]`` wherever its stage stands, and that every later stage j changes it by what j changed from the base::

    final_i = after[i, i] + sum over j after i of (after[j, i] - base[i])

Predictions are not clipped: one outside [0, 1] says that the assumption does not hold there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from omnithink_pl.curriculum.forgettability import Array, Forgettability, estimate, rank_by_forgettability
from omnithink_pl.curriculum.score_matrix import Estimate

Order = tuple[int, ...]
Scores = tuple[Array, ...]  # one array of shape (seeds, prompts) for each benchmark of a task

EXHAUSTIVE = 7  # tasks up to which all orders are tried: 5040 of them
_TOLERANCE = 1e-12  # means closer than this are equal


@dataclass(frozen=True)
class TransferScores:
    """Scores of the base model and of the single-task runs, by seed and prompt."""

    tasks: tuple[str, ...]
    # For each target task the base model's scores; a task's score is the plain mean over its benchmarks
    base: tuple[Scores, ...]
    # The same for each source task and each target task. The benchmarks and prompts of a target are the same in all
    # of its entries and in the same order
    after: tuple[tuple[Scores, ...], ...]

    def means(self) -> tuple[Array, Array]:
        """Return ``base`` and ``after`` as means over seeds and prompts: shapes (tasks,) and (tasks, tasks)."""
        base = np.array([_by_seed(scores).mean() for scores in self.base])
        return base, np.array([[_by_seed(scores).mean() for scores in row] for row in self.after])

    def bootstrap(self, draws: int, seed: int) -> tuple[Array, Array]:
        """Return means of bootstrap samples of prompts and seeds: shapes (draws, tasks) and (draws, tasks, tasks).

        Prompts are resampled within each benchmark, for all policies at once. The deviation of a bootstrap sample of
        the seeds is added, scaled to the variance that seeds have beyond the noise of single answers (analysis of
        variance with two crossed factors). Resampling both at once would count that noise three times (Owen 2007, "The
        Pigeonhole Bootstrap").
        """
        generator = np.random.default_rng(seed)
        tasks = len(self.tasks)
        runs = [len(_by_seed(scores)) for scores in (self.base[0], *(row[0] for row in self.after))]
        seeds = [_weights(generator, number, draws) for number in runs]  # one draw of a run's seeds for all targets
        result = np.empty((draws, 1 + tasks, tasks))
        for target in range(tasks):
            prompts = [_weights(generator, own.shape[1], draws) for own in self.base[target]]
            for source, scores in enumerate((self.base[target], *(row[target] for row in self.after))):
                by_seed = _by_seed(scores)
                deviation = seeds[source] @ by_seed - by_seed.mean()
                drawn = sum(weights @ own.mean(axis=0) for weights, own in zip(prompts, scores, strict=True))
                result[:, source, target] = drawn / len(scores) + _seed_scale(scores) * deviation
        return result[:, 0], result[:, 1:]


@dataclass(frozen=True)
class OrderPrediction:
    """Predicted final scores of one order, with 95 % intervals."""

    order: tuple[str, ...]  # names of the tasks, first stage first
    finals: tuple[Estimate, ...]  # final score of each task, in the order of ``Plan.tasks``
    mean: Estimate
    behind: Estimate  # difference of the mean to that of the best order; negative is behind
    best: float  # share of the bootstrap samples in which no order has a higher mean
    # Whether the order may be the best one, at the 5 % level: multiple comparisons with the best (Hsu 1984), which
    # accounts for the best order having been chosen by the same numbers
    within_noise: bool


@dataclass(frozen=True)
class Plan:
    """Predicted final scores of the orders, best first."""

    tasks: tuple[str, ...]
    effects: tuple[tuple[Estimate, ...], ...]  # change of a task (second index) by training on a task (first index)
    predictions: tuple[OrderPrediction, ...]  # one for each order
    exhaustive: bool  # whether all orders were tried
    forgettability: Forgettability  # the order by the paper's rule

    @property
    def within_noise(self) -> list[OrderPrediction]:
        """The orders that the measurements cannot tell from the best one, which is one of them."""
        return [one for one in self.predictions if one.within_noise]

    @property
    def by_paper(self) -> OrderPrediction:
        """The prediction for the paper's order, from the least to the most forgettable task."""
        return next(one for one in self.predictions if one.order == self.forgettability.order)


def plan(scores: TransferScores, draws: int = 2000, seed: int = 0, extra: Sequence[Sequence[str]] = ()) -> Plan:
    """Predict the final scores of the orders, also of ``extra`` ones and the paper's, and rank them by their mean."""
    base, after = scores.means()
    base_draws, after_draws = scores.bootstrap(draws, seed)
    effect, effect_draws = transfer_effects(base, after), transfer_effects(base_draws, after_draws)
    forgettability = rank_by_forgettability(scores.tasks, effect, effect_draws)
    number = {task: index for index, task in enumerate(scores.tasks)}
    given = (tuple(number[task] for task in order) for order in (forgettability.order, *extra))
    tried = [*candidate_orders(base, after), *given]
    orders = list(dict.fromkeys(tried))
    finals = predict_final_scores(base, after, orders)
    ranked = np.argsort(-finals.mean(axis=-1), kind="stable")
    orders, finals = [orders[index] for index in ranked], finals[ranked]
    means = finals.mean(axis=-1)
    intervals: list[tuple[Estimate, ...]] = []
    mean_draws = np.empty((draws, len(orders)))
    for rank, order in enumerate(orders):  # one at a time: all orders of seven tasks would fill the memory
        drawn = predict_final_scores(base_draws, after_draws, [order])[:, 0]
        intervals.append(tuple(estimate(finals[rank, i], drawn[:, i]) for i in range(len(number))))
        mean_draws[:, rank] = drawn.mean(axis=-1)
    noise = mean_draws - means
    tolerated = np.quantile(noise.max(axis=1, keepdims=True) - noise, 0.95, axis=0)
    leading = mean_draws >= mean_draws.max(axis=1, keepdims=True) - _TOLERANCE
    predictions = tuple(
        OrderPrediction(
            order=tuple(scores.tasks[task] for task in order),
            finals=intervals[rank],
            mean=estimate(means[rank], mean_draws[:, rank]),
            behind=estimate(means[rank] - means[0], mean_draws[:, rank] - mean_draws[:, 0]),
            best=float(leading[:, rank].mean()),
            within_noise=bool(means[0] - means[rank] <= tolerated[rank] + _TOLERANCE),
        )
        for rank, order in enumerate(orders)
    )
    effects = tuple(
        tuple(estimate(value, effect_draws[:, j, i]) for i, value in enumerate(row)) for j, row in enumerate(effect)
    )
    return Plan(scores.tasks, effects, predictions, len(number) <= EXHAUSTIVE, forgettability)


def transfer_effects(base: Array, after: Array) -> Array:
    """Return the change of task i by training on task j, ``after - base``; positive is a gain.

    Shapes: ``base`` (..., tasks), ``after`` and the result (..., source tasks, target tasks).
    """
    return after - base[..., None, :]


def predict_final_scores(base: Array, after: Array, orders: Sequence[Order]) -> Array:
    """Return the final score of every task under every order, by the saturation model: shape (..., orders, tasks).

    Shapes of ``base`` and ``after`` as above; orders are permutations of the tasks' numbers, first stage first.
    """
    place = np.argsort(np.asarray(orders), axis=1)
    later = (place[:, :, None] > place[:, None, :]).astype(float)  # [order, j, i]: stage j comes after stage i
    own = np.diagonal(after, axis1=-2, axis2=-1)
    return own[..., None, :] + np.einsum("oji,...ji->...oi", later, transfer_effects(base, after))


def candidate_orders(base: Array, after: Array) -> list[Order]:
    """Return all orders of up to ``EXHAUSTIVE`` tasks; of more, one found by local search, and its reverse.

    The search moves single tasks to their best places until no move gains anything. It starts from the order of
    increasing net effect on the others: a late stage harms none that come after it, so harmful tasks go first. It finds
    a local optimum, not always the best order: the linear ordering problem is NP-hard.
    """
    tasks = base.shape[-1]
    if tasks <= EXHAUSTIVE:
        return list(permutations(range(tasks)))
    effect = transfer_effects(base, after)
    net = effect.sum(axis=1) - effect.sum(axis=0)  # effect on the others less the others' effect on it
    best = _local_search(tuple(int(task) for task in np.argsort(net)), effect)
    return [best, best[::-1]]


def _local_search(order: Order, effect: Array) -> Order:
    def gain(order: Order) -> float:
        """Effect of all later stages together on all earlier ones."""
        return float(np.tril(effect[np.ix_(order, order)], -1).sum())

    moves = []  # every order that moves a single task
    for task in order:
        rest = [other for other in order if other != task]
        moves += [(*rest[:place], task, *rest[place:]) for place in range(len(order))]
    best = max(moves, key=gain)
    return _local_search(best, effect) if gain(best) > gain(order) + _TOLERANCE else order


def _weights(generator: np.random.Generator, number: int, draws: int) -> Array:
    """Shares with which each of ``number`` items is drawn with replacement: shape (draws, number)."""
    return generator.multinomial(number, np.full(number, 1.0 / number), size=draws) / number


def _by_seed(scores: Scores) -> Array:
    """Mean over the benchmarks of the mean over their prompts: shape (seeds,)."""
    return np.mean([own.mean(axis=1) for own in scores], axis=0)


def _seed_scale(scores: Scores) -> float:
    """Factor on the deviations of resampled seeds that leaves the variance beyond the noise of single answers."""
    by_seed, seeds = _by_seed(scores), len(scores[0])
    if seeds < 2:
        return 0.0
    between = by_seed.var(ddof=1)
    noise = 0.0  # variance of a seed's mean over the prompts that is due to the noise of single answers
    for own in scores:
        prompts = own.shape[1]
        residual = own - own.mean(axis=1, keepdims=True) - own.mean(axis=0) + own.mean()
        if prompts > 1:
            noise += (residual**2).sum() / ((seeds - 1) * (prompts - 1) * prompts) / len(scores) ** 2
    share = max(0.0, 1.0 - noise / between) if between > 0.0 else 1.0
    return float(np.sqrt(share * seeds / (seeds - 1)))
