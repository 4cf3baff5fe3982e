"""From prompts to rollouts to rewards: what a training step learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from omnithink_pl.modules.processes import gather_rows, process_rank
from omnithink_pl.modules.scored import ScoredGroup
from omnithink_pl.rewards.batch import BatchScoring
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.types import Completion, Example, Group

if TYPE_CHECKING:
    from omnithink_pl.advantage import GroupAdvantage
    from omnithink_pl.modules.failures import FailureMonitor
    from omnithink_pl.modules.stopwatch import Stopwatch
    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine, Sampling
    from omnithink_pl.tasks.base import Task


@dataclass(frozen=True)
class Rollouts:
    """Groups that have been sampled, and whose rewards are on their way.

    Args:
        step: The step that they are for, zero-based.
        groups: In the order of their examples.
        scoring: Their rewards.
    """

    step: int
    groups: list[Group]
    scoring: BatchScoring


@final
class Collector:
    """Samples groups, scores them and gives them advantages.

    Rewards of a group begin as soon as it has been sampled, while others still are, and those of all tasks run at the
    same time.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name, with their rewards.
        sampling: How completions are drawn.
        advantage: How rewards of a group become advantages.
        monitor: Watches the failures of rewards.
        seed: Of the run.
        watch: Told what takes how long.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: Mapping[str, Task],
        sampling: Sampling,
        advantage: GroupAdvantage,
        monitor: FailureMonitor,
        seed: int,
        watch: Stopwatch,
    ) -> None:
        self.engine = engine
        self.tasks = tasks
        self.sampling = sampling
        self.advantage = advantage
        self.monitor = monitor
        self.seed = seed
        self.watch = watch
        self._hidden = 0.0

    def generate(self, policy: Policy, batch: Sequence[Example], step: int) -> Rollouts:
        """Sample G completions for each example from the present policy, and begin to score them."""
        for task in self.tasks.values():
            task.rubric.metrics()  # what an evaluation left behind is not this step's
        prompts = [tuple(policy.encode(example.messages)) for example in batch]
        scoring = BatchScoring({name: task.rubric for name, task in self.tasks.items()})

        def finished(place: int, completions: tuple[Completion, ...]) -> None:
            scoring.add({place: Group(batch[place], prompts[place], completions)})

        with self.watch.timed("rollout"):
            self.engine.sync()
            sampled = self.engine.generate(prompts, self.sampling, self._seeds(batch, step), finished)
            scoring.complete()
        return Rollouts(step, list(map(Group, batch, prompts, sampled)), scoring)

    def score(self, rollouts: Rollouts) -> list[ScoredGroup]:
        """Wait for the scores of all completions, and normalise them within each group.

        Raises:
            RewardFailure: If a task's rewards fail too often.
        """
        self._hidden = rollouts.scoring.seconds_at_work()
        with self.watch.timed("reward"):
            scores = rollouts.scoring.scores(self.monitor.policy.reward_timeout)
            everyones_groups, everyones_scores = gather_rows(rollouts.groups), gather_rows(scores)
            self.monitor.observe(everyones_groups, everyones_scores, rollouts.step)
        return [
            ScoredGroup(group, tuple(row), tuple(self.advantage(row)))
            for group, row in zip(rollouts.groups, scores, strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """What there is to say about the last batch beside its rewards, by name."""
        rewards = {f"{n}/{name}": v for n, task in self.tasks.items() for name, v in task.rubric.metrics().items()}
        return {f"train/{name}": value for name, value in ({"seconds/reward_hidden": self._hidden} | rewards).items()}

    def _seeds(self, batch: Sequence[Example], step: int) -> list[int]:
        """Seeds of the examples; what occurs several times is counted over all processes."""
        rank = process_rank()
        everyone = gather_rows([(rank, example.key) for example in batch])
        seeds = keyed_seeds((key for _, key in everyone), self.seed, step)
        return [seed for (owner, _), seed in zip(everyone, seeds, strict=True) if owner == rank]
