"""The order of tasks that is predicted to end best, from what training on each one alone did to all. Pure arithmetic.

Scores are fractions in [0, 1]; ``after[j, i]`` is the score on task i after training on task j alone, ``base[i]``
that of the base model. Under the *saturation assumption*, training on task i brings it to the same score
``after[i, i]`` wherever its stage stands, and every later stage j moves it by what j did to it from the base::

    final_i = after[i, i] + sum over j after i of (after[j, i] - base[i])

Nothing keeps a prediction within [0, 1]: one outside says that the assumption does not hold there.
"""

from __future__ import annotations

from collections.abc import Sequence
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
