"""Task samplers: the task of each prompt of a batch, and prompts that are skipped."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from omnithink_pl.errors import BadInput
from omnithink_pl.types import State

if TYPE_CHECKING:
    from omnithink_pl.grpo.advantage import GroupRecord
    from omnithink_pl.types import Example


class TaskSampler(ABC):
    """Mixes the tasks of a stage.

    A draw is a function of the arguments and of the observations. Every process observes the same, and the state is
    part of checkpoints, so a resumed run draws what an uninterrupted one would.
    """

    @abstractmethod
    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """Return how much each task is drawn now.

        Args:
            weights: Those of the stage's tasks, above 0 and not necessarily summing to 1.
            sizes: Training examples of each task.

        Returns:
            A weight of at least 0 for each of these tasks, not necessarily summing to 1.
        """

    def assign(self, mixture: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
        """Return the task of each of ``count`` prompts, in shuffled order.

        Args:
            mixture: Weight of each task.
            count: Prompts in the batch.
            rng: Seeded with the step.
        """
        return systematic(mixture, count, rng)

    def passes_over(self, example: Example, rng: np.random.Generator) -> bool:
        """Return whether an example is left for a later pass over its task's rows.

        Args:
            example: The next one of its task.
            rng: For this question alone.
        """
        return False

    def observe(self, trained: Sequence[GroupRecord], replaced: Sequence[GroupRecord]) -> None:  # noqa: B027
        """Observe the groups of a step, over all processes.

        Args:
            trained: The batch.
            replaced: Groups that were replaced because they had no signal.
        """

    def metrics(self) -> dict[str, float]:
        """Return metrics of the next step's mixture, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore the state."""

    @final
    def draw(
        self, weights: Mapping[str, float], sizes: Mapping[str, int], count: int, rng: np.random.Generator
    ) -> list[str]:
        """Draw the task of each of ``count`` prompts, in shuffled order.

        Args:
            weights: The stage's.
            sizes: Training examples of each task.
            count: Prompts in the batch.
            rng: Seeded with the step.
        """
        own = {task: weight for task, weight in weights.items() if weight > 0}
        return self.assign(self.mixture(own, sizes), count, rng)


def systematic(mixture: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """Draw tasks by systematic sampling: every batch holds the mixture as nearly as whole prompts allow.

    One uniform offset is drawn and stepped through the cumulated weights, so each task's count is its
    expectation rounded up or down, and over many batches its share is the intended one.

    Args:
        mixture: Weight of each task.
        count: Prompts.
        rng: What is drawn with.
    """
    tasks = list(mixture)
    edges = np.cumsum([mixture[task] for task in tasks])
    points = (rng.random() + np.arange(count)) * (edges[-1] / count)
    chosen = np.minimum(np.searchsorted(edges, points, side="right"), len(tasks) - 1)
    return [tasks[i] for i in rng.permutation(chosen)]


@final
class StratifiedTaskSampler(TaskSampler):
    """Every batch holds the stage's mixture as nearly as whole prompts allow: the default."""

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """Return the stage's weights."""
        return dict(weights)


@final
class OneTaskSampler(TaskSampler):
    """All prompts of a step are of one task, drawn with the stage's weights as chances.

    So Omni-Think's section 3.2 has it, "at each training step, a task T_k is sampled", and its equation 2, T_k ~ P(T);
    the same section says of joint training that "mini-batches are interleaved across domains", which the mixed batches
    of the other samplers are too. The expected share of a task is the same; gradients of single steps vary more.
    """

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """Return the stage's weights."""
        return dict(weights)

    def assign(self, mixture: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
        """Draw one task for the whole batch."""
        return systematic(mixture, 1, rng) * count


@final
class UniformSampler(TaskSampler):
    """Every task of the stage is drawn alike, whatever its weight."""

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """Return 1 for each task of the stage."""
        return dict.fromkeys(weights, 1.0)


@final
class ProportionalSampler(TaskSampler):
    """Draws a task in proportion to its weight times the number of its training examples, to a power.

    At exponent 1 and equal weights every example is met equally often. Smaller exponents lift small tasks, as is
    usual for data sets of very different sizes; 1/T is the temperature T of mT5 (Xue et al. 2021, arXiv 2010.11934,
    section 3.1).

    Args:
        exponent: 0 leaves the stage's weights, 1 is proportional.
    """

    def __init__(self, exponent: float = 1.0) -> None:
        if not 0.0 <= exponent <= 1.0:
            raise BadInput(f"data.task_sampler.init_args.exponent is {exponent}; it lies between 0 and 1")
        self.exponent = exponent

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """Return weight times size to the power of ``exponent``."""
        return {task: weight * sizes[task] ** self.exponent for task, weight in weights.items()}


@final
class AdaptiveSampler(TaskSampler):
    """Draws fewer of the tasks and prompts whose groups are all right or all wrong.

    A group teaches where its rewards differ. How much they do is its variance, which for a reward of 0 or 1 with
    success rate p is p (1 - p): the *learnability* of Rutherford et al. 2024 (arXiv 2408.15099), used for language
    models by Foster et al. 2025 (arXiv 2502.12272). Here l = 4 Var(primary reward) in [0, 1], 1 at p = 1/2. Running
    means of it start at 1, so that a run begins with the stage's mixture:

        L_k <- (1 - 1/task_memory) L_k + (1/task_memory) l      for each group of task k
        L_x <- (1 - 1/prompt_memory) L_x + (1/prompt_memory) l  for each group of prompt x

    Task k is meant to have the share m_k ~ w_k (floor + (1 - floor) L_k) of the groups that have a signal, w_k being
    the stage's weight. Not every group that is drawn has one, and in hopeless tasks fewer: so tasks are drawn with
    m_k / a_k, where a_k is a running mean of the share of trained groups with a signal, held to at least
    ``least_acceptance`` lest a task that never has one take all. Where ``model.rollouts.refill_rounds`` has groups
    without a signal replaced, a_k is near 1 and nothing is left to correct.

    Prompt x is passed over with probability 1 - (floor + (1 - floor) L_x); another of its task takes its place, so
    that this leaves the mixture of tasks alone.

    Args:
        floor: Weight that remains of a task or prompt with no variance at all, so that it is looked at again.
        task_memory: Groups over which a task's running means reach back.
        prompt_memory: Groups over which a prompt's does.
        least_acceptance: Smallest a_k; its inverse is the most that a task is overdrawn.
    """

    def __init__(
        self,
        floor: float = 0.1,
        task_memory: float = 64.0,
        prompt_memory: float = 2.0,
        least_acceptance: float = 0.25,
    ) -> None:
        for key, value in (("floor", floor), ("least_acceptance", least_acceptance)):
            if not 0.0 < value <= 1.0:
                raise BadInput(f"data.task_sampler.init_args.{key} is {value}; it lies above 0 and is at most 1")
        for key, value in (("task_memory", task_memory), ("prompt_memory", prompt_memory)):
            if value < 1.0:
                raise BadInput(f"data.task_sampler.init_args.{key} is {value}; it is at least 1")
        self.floor = floor
        self.task_memory = task_memory
        self.prompt_memory = prompt_memory
        self.least_acceptance = least_acceptance
        self._tasks: dict[str, float] = {}
        self._prompts: dict[str, float] = {}
        self._acceptance: dict[str, float] = {}

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """Return the intended share divided by the acceptance rate."""
        intended = self.intended(weights)
        return {
            task: share / max(self.least_acceptance, self._acceptance.get(task, 1.0))
            for task, share in intended.items()
        }

    def intended(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Return the intended share m_k of each task among the groups with a signal; they sum to 1."""
        worth = {task: weight * self._weight(self._tasks.get(task, 1.0)) for task, weight in weights.items()}
        return {task: value / sum(worth.values()) for task, value in worth.items()}

    def passes_over(self, example: Example, rng: np.random.Generator) -> bool:
        """Skip rather where the prompt's last groups were all right or all wrong."""
        return bool(rng.random() >= self._weight(self._prompts.get(example.key, 1.0)))

    def observe(self, trained: Sequence[GroupRecord], replaced: Sequence[GroupRecord]) -> None:
        """Update the running means."""
        for group in (*replaced, *trained):
            found = learnability(group)
            if found is not None:
                _move(self._tasks, group.task, found, self.task_memory)
                _move(self._prompts, group.key, found, self.prompt_memory)
        for group in trained:
            _move(self._acceptance, group.task, float(group.has_signal), self.task_memory)

    def metrics(self) -> dict[str, float]:
        """Return both running means of each task."""
        return {f"{task}/learnability": value for task, value in self._tasks.items()} | {
            f"{task}/acceptance": value for task, value in self._acceptance.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the running means."""
        return {"tasks": dict(self._tasks), "prompts": dict(self._prompts), "acceptance": dict(self._acceptance)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state."""
        self._tasks, self._prompts = dict(state["tasks"]), dict(state["prompts"])
        self._acceptance = dict(state["acceptance"])

    def _weight(self, learnability: float) -> float:
        return self.floor + (1.0 - self.floor) * learnability


def learnability(group: GroupRecord) -> float | None:
    """Return 4 Var of the primary reward over the scored completions, in [0, 1]; ``None`` for fewer than two.

    Rewards are scaled from their range to [0, 1]. A completion without an answer has the lowest, as in the metrics.
    """
    values = [score.primary_value for score in group.scores if score.state is not State.FAILED]
    if len(values) < 2:
        return None
    low, high = group.scores[0].components[0].range
    return 4.0 * statistics.pvariance(values) / (high - low) ** 2


def _move(means: dict[str, float], key: str, value: float, memory: float) -> None:
    before = means.get(key, 1.0)
    means[key] = before + (value - before) / memory
