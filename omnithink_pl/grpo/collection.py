"""From prompts to rollouts to rewards: what a training step learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.metrics import staleness
from omnithink_pl.grpo.partial_rollouts import Begun, Carried, RolloutPolicy, Rollouts, pack, unpack
from omnithink_pl.rewards.scoring import BatchScoring
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.types import Completion, Example, Group, State

if TYPE_CHECKING:
    from omnithink_pl.curriculum.stages import StageRun
    from omnithink_pl.data import MultiTaskData
    from omnithink_pl.distributed.failure_barrier import Peers
    from omnithink_pl.grpo.advantage import GroupAdvantage
    from omnithink_pl.grpo.failures import FailureMonitor
    from omnithink_pl.grpo.metrics import Stopwatch
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine, Sampling
    from omnithink_pl.tasks.base import Task


@final
class Collector:
    """Samples groups, scores them and gives them advantages.

    Rewards of a group begin as soon as it has been sampled, while others still are, and those of all tasks run at the
    same time. When they are there makes no difference to what is learned.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name, with their rewards.
        sampling: How completions are drawn.
        advantage: How rewards of a group become advantages.
        monitor: Counts what rewards could not be computed, and decides what follows.
        seed: Of the run.
        peers: Told when this process works by itself.
        watch: Told which phase the step is in.
        options: When rollouts are sampled.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: Mapping[str, Task],
        sampling: Sampling,
        advantage: GroupAdvantage,
        monitor: FailureMonitor,
        seed: int,
        peers: Peers,
        watch: Stopwatch,
        options: RolloutPolicy,
    ) -> None:
        self.engine = engine
        self.tasks = tasks
        self.sampling = sampling
        self.advantage = advantage
        self.monitor = monitor
        self.seed = seed
        self.watch = watch
        self.peers = peers
        self.options = options
        self.policy: Policy
        self.data: MultiTaskData
        self.stage: StageRun
        self._pending: dict[int, Rollouts] = {}
        self._packed: list[dict[str, Any]] = []
        self._replaced: list[ScoredGroup] = []
        self.carried = Carried()
        self._hidden = 0.0
        self._trained: dict[str, float] = {}

    def attach(self, policy: Policy, data: MultiTaskData) -> None:
        """Take the policy and the data. Called once, before the first step.

        Raises:
            BadInput: If rewards that ask the policy would have to do it while it samples.
        """
        self.policy, self.data = policy, data
        for name, task in self.tasks.items():
            for reward, _ in task.rubric.rewards:
                if self.options.async_rewards and reward.awaits == "policy":
                    raise BadInput(
                        f"model.rollouts.async_rewards: the reward {reward.name!r} of data.tasks.{name} asks the "
                        f"policy, which samples the next rollouts meanwhile; set it to false, or name another judge"
                    )

    def collect(self, batch: Sequence[Example], step: int) -> list[ScoredGroup]:
        """What a step is trained on: this process's part of it.

        Args:
            batch: The step's examples.
            step: Zero-based.

        Raises:
            RewardFailure: If a task's rewards fail too often.
        """
        self._unpack()
        self._hidden, self._replaced = 0.0, []
        rollouts = self._pending.get(step)
        if rollouts is None:
            for task in self.tasks.values():
                task.rubric.metrics()  # what an evaluation left behind is not this step's
            rollouts = self.generate(self._admit(batch, step), step, step)
        self._pending = {s: waiting for s, waiting in self._pending.items() if s > step} | {step: rollouts}
        if self.options.async_rewards and self._goes_on(step):
            following = self.data.batch(step + 1)
            if step + 1 not in self._pending:
                self._pending[step + 1] = self.generate(self._admit(following, step + 1), step + 1, step)
        scored = self._refill(self.score(rollouts, step), step)
        everyone = gather_rows([*self._replaced, *scored])
        self.monitor.observe([one.group for one in everyone], [one.scores for one in everyone], step)
        return scored

    def generate(self, batch: Sequence[Example], step: int, now: int, part: int = 0) -> Rollouts:
        """Sample G completions for each example from the present policy, and begin to score them.

        Args:
            batch: Examples.
            step: The step that they are for.
            now: Steps that the policy has been trained.
            part: 0 for the step's batch, 1, 2, ... for what replaces some of it.
        """
        # What goes on comes first: it has proved long, and an engine that cannot decode all at once begins there.
        asked = [] if part else self.carried.take(step)
        for example, seed in zip(batch, self._seeds(batch, step, part), strict=True):
            asked.append(Begun(Group(example, tuple(self.policy.encode(example.messages)), ()), seed))
        # What replaces other groups is sampled to its end: it is asked for in order to be trained on at once.
        segment = None if part or not self._goes_on(step) else self.options.segment_tokens
        sampling, scoring = replace(self.sampling, segment=segment), self._scoring()
        while True:
            with self.watch.timed("rollout"), self.peers.watching():
                asked = self._sample(asked, sampling, scoring)
            complete = [one.group for one in asked if one.is_complete(sampling)]
            if segment is None:
                break
            left = self.carried.leave(step + 1, [one for one in asked if not one.is_complete(sampling)])
            if left == 0 or any(gather_rows([bool(complete)])):
                break  # else the step would have nothing to be trained on
        scoring.complete()
        return Rollouts(step, now, complete, scoring)

    def _sample(self, asked: Sequence[Begun], sampling: Sampling, scoring: BatchScoring) -> list[Begun]:
        """Go on with groups by the present policy, and begin to score those that are complete."""

        def finished(place: int, completions: tuple[Completion, ...]) -> None:
            done = asked[place].at(completions)
            if done.is_complete(sampling):
                scoring.add({place: done.group})

        prompts, seeds = [one.group.prompt_ids for one in asked], [one.seed for one in asked]
        begun = [one.group.completions for one in asked]
        self.engine.sync()
        sampled = self.engine.generate(prompts, sampling, seeds, finished, begun)
        return [one.at(completions) for one, completions in zip(asked, sampled, strict=True)]

    def score(self, rollouts: Rollouts, now: int) -> list[ScoredGroup]:
        """Wait for the scores of all completions, and normalise them within each group."""
        self._hidden += rollouts.scoring.seconds_at_work()
        with self.watch.timed("reward"), self.peers.watching():
            scores = rollouts.scoring.scores(self.monitor.policy.reward_timeout)
        return [
            ScoredGroup(group, tuple(row), tuple(self.advantage(row)), stale=rollouts.sampled_at < now)
            for group, row in zip(rollouts.groups, scores, strict=True)
        ]

    def learned(self, everyone: Sequence[ScoredGroup]) -> None:
        """Tell the task sampler what a finished step was trained on, over all processes."""
        self._replaced = gather_rows(self._replaced)
        self._trained = staleness(everyone)
        self.data.task_sampler.observe(everyone, self._replaced)

    def metrics(self) -> dict[str, float]:
        """What there is to say about the last step beside its rewards, by name."""
        metrics = {"seconds/reward_hidden": self._hidden}
        if self.options.async_rewards:
            metrics["stale_groups"] = self._trained["stale_groups"]
        if self.options.segment_tokens is not None:
            metrics |= {"carried_groups": float(self.carried.left)} | self._trained
        if self.options.refill_rounds:
            metrics["replaced_groups"] = float(len(self._replaced))
        for name, task in self.tasks.items():
            metrics |= {f"{name}/{key}": value for key, value in task.rubric.metrics().items()}
        metrics |= self.data.task_sampler.metrics()
        return self.monitor.metrics() | {f"train/{name}": value for name, value in metrics.items()}

    def state_dict(self, steps_done: int) -> list[dict[str, Any]]:
        """Rollouts of steps that are not finished, sampled by a policy that is gone; all processes must call it."""
        pending = [one for step, one in sorted(self._pending.items()) if step >= steps_done]
        return self._packed + [
            {"step": one.step, "sampled_at": one.sampled_at, "groups": pack(gather_rows(one.groups))}
            for one in pending
            if self.options.async_rewards  # otherwise its policy is there to sample them again
        ]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on from there, once there is data."""
        self._packed = list(state)

    def _unpack(self) -> None:
        if not self._packed and not self.carried.is_packed:
            return
        examples = {example.key: example for example in self.data.train}
        self.carried.unpack(examples)
        for one in self._packed:
            groups = unpack(one["groups"], examples)[process_rank() :: process_count()]
            scoring = self._scoring()
            scoring.add(dict(enumerate(groups)))
            scoring.complete()
            self._pending[one["step"]] = Rollouts(one["step"], one["sampled_at"], groups, scoring)
        self._packed = []

    def _refill(self, scored: list[ScoredGroup], step: int) -> list[ScoredGroup]:
        """Replace groups without a signal by groups of other prompts of their task, as often as is allowed."""
        asked = 0
        for part in range(1, self.options.refill_rounds + 1):
            places = [place for place, one in enumerate(scored) if not one.has_signal and not _failed(one)]
            wanted = gather_rows([(process_rank(), scored[place].task) for place in places])
            if not wanted:
                break
            further = self.data.more(step, asked, [task for _, task in wanted])
            asked += len(further)
            own = [e for e, (rank, _) in zip(further, wanted, strict=True) if rank == process_rank()]
            fresh = self.score(self.generate(own, step, step, part), step)
            self._replaced += [scored[place] for place in places]
            scored = [*scored]
            for place, one in zip(places, fresh, strict=True):
                scored[place] = one
        return scored

    def _admit(self, batch: Sequence[Example], step: int) -> list[Example]:
        """Leave out tasks that are paused because their rewards fail."""
        return self.monitor.admit(batch, step, list(self.stage.stage.mixture))

    def _goes_on(self, step: int) -> bool:
        """Whether the stage has a step after this one: rollouts do not outlive a stage, nor its evaluation."""
        return step + 1 < self.stage.end_step

    def _scoring(self) -> BatchScoring:
        return BatchScoring({name: task.rubric for name, task in self.tasks.items()})

    def _seeds(self, batch: Sequence[Example], step: int, part: int) -> list[int]:
        """Seeds of the examples; what occurs several times is counted over all processes."""
        rank = process_rank()
        everyone = gather_rows([(rank, example.key) for example in batch])
        seeds = keyed_seeds((key for _, key in everyone), self.seed, step, part)
        return [seed for (owner, _), seed in zip(everyone, seeds, strict=True) if owner == rank]


def _failed(group: ScoredGroup) -> bool:
    """Whether it may lack a signal for a reason of ours, which other prompts would meet as well."""
    return any(score.state is State.FAILED for score in group.scores)
