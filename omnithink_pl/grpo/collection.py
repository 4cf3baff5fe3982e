"""From prompts to rollouts to rewards: the groups that a training step is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.data import MultiTaskData
from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import GroupAdvantage, GroupRecord, ScoredGroup
from omnithink_pl.grpo.failures import FailureMonitor
from omnithink_pl.grpo.metrics import Stopwatch, staleness
from omnithink_pl.grpo.objective import ImportanceCorrection
from omnithink_pl.grpo.overlong import Overlong
from omnithink_pl.grpo.partial_rollouts import BegunRollouts, PartialGroup, PartialRollouts, Rollouts, pack, unpack
from omnithink_pl.model.policy import Policy
from omnithink_pl.rewards.scoring import BatchScoring
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Completion, Example, Group, Score, State


@dataclass(frozen=True)
class RolloutSettings:
    """When rollouts are sampled, and how many updates they are used for.

    Args:
        refill_rounds: How often, in one step, groups without a signal are replaced by groups of other prompts of
            their task. A group whose rewards are all equal teaches nothing but to stay near the reference.
        async_rewards: Sample the next step's rollouts before this step's rewards are awaited, so that slow rewards
            cost no time; with a vLLM server, which needs nothing of the trainer, also while this step is trained. They
            are then one step off-policy, never more, and their ratio is taken to the sampler's log-probabilities. The
            first rollouts of a stage are on-policy, and none outlives its stage.
        segment_tokens: Sample at most so many tokens of a completion in one step (partial rollouts), so that no step
            waits for the longest. A group with unfinished completions is continued in the next step, by the policy of
            that step, and is trained on once all of them are finished. Not given: each step finishes its completions.
        updates_per_batch: Optimiser steps per batch of rollouts; with more than one, all but the first are off-policy.
        correction: What to do where the engine's log-probabilities differ from the trainer's.

    Raises:
        BadInput: If a value is out of range.
    """

    refill_rounds: int = 0
    async_rewards: bool = False
    segment_tokens: int | None = None
    updates_per_batch: int = 1
    correction: ImportanceCorrection = ImportanceCorrection()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        if self.refill_rounds < 0:
            raise BadInput(f"model.rollouts.refill_rounds is {self.refill_rounds}; use 0 or more")
        if self.segment_tokens is not None and self.segment_tokens < 1:
            raise BadInput(f"model.rollouts.segment_tokens is {self.segment_tokens}; use 1 or more, or null")
        if self.updates_per_batch < 1:
            raise BadInput(f"model.rollouts.updates_per_batch is {self.updates_per_batch}; use 1 or more")


@final
@dataclass(eq=False)
class Collector:
    """Samples groups, scores them and computes their advantages.

    A group is scored as soon as it has been sampled, while others are still being sampled, and the rewards of all tasks
    run concurrently. Results do not depend on when rewards arrive.
    """

    engine: RolloutEngine
    tasks: Mapping[str, Task]
    sampling: Sampling
    advantage: GroupAdvantage
    monitor: FailureMonitor
    seed: int
    barrier: FailureBarrier
    watch: Stopwatch
    settings: RolloutSettings
    overlong: Overlong = Overlong()  # noqa: RUF009  (frozen)
    policy: Policy = field(init=False)
    data: MultiTaskData = field(init=False)
    stage: StageRun = field(init=False)  # the present one; set by the module when it starts

    def __post_init__(self) -> None:
        self.partial = PartialRollouts()
        self.trained: list[GroupRecord] = []  # those of the last step, over all processes
        self._replaced: list[GroupRecord] = []
        self._hidden_seconds = 0.0
        self._pending: dict[int, Rollouts] = {}  # by step: the present one, and the next one if sampled ahead
        self._begun: BegunRollouts | None = None
        self._packed: list[dict[str, Any]] = []

    def attach(self, policy: Policy, data: MultiTaskData) -> None:
        """Set the policy and the data, before the first step; refuse rewards that ask the policy while it samples."""
        self.policy, self.data = policy, data
        for name, task in self.tasks.items():
            for reward, _ in task.rubric.rewards:
                if self.settings.async_rewards and reward.awaits == "policy":
                    raise BadInput(
                        f"model.rollouts.async_rewards: the reward {reward.name!r} of data.tasks.{name} asks the "
                        f"policy, which samples the next rollouts meanwhile; set it to false, or name another judge"
                    )

    def collect(self, batch: Sequence[Example], step: int) -> list[ScoredGroup]:
        """Return this process's groups that a step, zero-based, is trained on, given the step's examples.

        Raises:
            RewardFailure: If a task's rewards fail too often.
        """
        self._unpack()
        self._hidden_seconds = 0.0
        self._await_begun()
        rollouts = self._pending.get(step)
        if rollouts is None:
            for task in self.tasks.values():
                task.rubric.metrics()  # drop those of an evaluation: they are not this step's
            rollouts = self.generate(self._admit(batch, step), step, step)
        self._pending = {s: waiting for s, waiting in self._pending.items() if s > step} | {step: rollouts}
        if self.settings.async_rewards and not self._ends_stage(step):
            following = self.data.batch(step + 1)  # even if not needed: drawn before this step's replacements
            if step + 1 not in self._pending:
                self._sample_ahead(self._admit(following, step + 1), step + 1, step)
        scored, replaced = self._refill(self.score(rollouts, step), step)
        self.trained = gather_rows([group.record() for group in scored])
        self._replaced = [group.record() for group in replaced]
        if self.settings.refill_rounds:
            self._replaced = gather_rows(self._replaced)
        self.monitor.observe([*self._replaced, *self.trained], step)
        return scored

    def generate(self, batch: Sequence[Example], step: int, sampled_at: int, refill: int = 0) -> Rollouts:
        """Sample G completions for each example from the present policy, and start to score them.

        Args:
            batch: Examples.
            step: The step that they are for.
            sampled_at: Training steps of the policy.
            refill: 0 for the step's batch, 1, 2, ... for the rounds that replace groups of it.
        """
        groups = self._new_groups(batch, step, refill)
        # Replacements are sampled to their end: the step waits for them.
        segment = None if refill or self._ends_stage(step) else self.settings.segment_tokens
        sampling, scoring = self.sampling.in_segments(segment), self._scoring()
        while True:
            with self.watch.timed("rollout"), self.barrier.guard():
                groups = self._sample(groups, sampling, scoring)
            complete = [one.group for one in groups if one.is_complete(sampling)]
            if segment is None:
                break
            unfinished = self.partial.put(step + 1, [one for one in groups if not one.is_complete(sampling)])
            if unfinished == 0 or any(gather_rows([bool(complete)])):
                break  # otherwise the step would have no group to train on
        scoring.complete()
        return Rollouts(step, sampled_at, complete, scoring)

    def _new_groups(self, batch: Sequence[Example], step: int, refill: int = 0) -> list[PartialGroup]:
        """Return the groups that a step continues, and those that it begins; all processes must call it."""
        # Partial groups come first: they have proved long, and an engine that cannot decode all at once starts there.
        groups = [] if refill else self.partial.take(step)
        # The seeds of repeated examples differ, whichever processes have them.
        everyone = gather_rows([(process_rank(), example.key) for example in batch])
        seeds = keyed_seeds((key for _, key in everyone), self.seed, step, refill)
        own = [seed for (rank, _), seed in zip(everyone, seeds, strict=True) if rank == process_rank()]
        for example, seed in zip(batch, own, strict=True):
            groups.append(PartialGroup(Group(example, tuple(self.policy.encode(example.messages)), ()), seed))
        return groups

    def _sample(self, groups: Sequence[PartialGroup], sampling: Sampling, scoring: BatchScoring) -> list[PartialGroup]:
        """Continue groups with the present policy, and start to score those that are complete."""
        self.engine.sync()
        sampled = self.engine.generate(*_request(groups, sampling, scoring))
        return [one.with_completions(completions) for one, completions in zip(groups, sampled, strict=True)]

    def _sample_ahead(self, batch: Sequence[Example], step: int, sampled_at: int) -> None:
        """Sample for the next step: at once, or beside what follows where the engine can and each step ends its own."""
        begin = getattr(self.engine, "begin", None)
        if begin is None or self.settings.segment_tokens is not None:
            self._pending[step] = self.generate(batch, step, sampled_at)
            return
        groups, scoring = self._new_groups(batch, step), self._scoring()
        with self.watch.timed("rollout"), self.barrier.guard():
            self.engine.sync()
            completions = begin(*_request(groups, self.sampling, scoring))
        self._begun = BegunRollouts(step, sampled_at, groups, scoring, completions)

    def _await_begun(self) -> None:
        if self._begun is not None:
            with self.watch.timed("rollout"), self.barrier.guard():
                self._begun.completions.result()
            self._end_begun(self._begun)

    def _end_begun(self, begun: BegunRollouts) -> None:
        rows = zip(begun.groups, begun.completions.result(), strict=True)
        groups = [one.with_completions(completions).group for one, completions in rows]
        begun.scoring.complete()
        self._pending[begun.step] = Rollouts(begun.step, begun.sampled_at, groups, begun.scoring)
        self._begun = None

    def score(self, rollouts: Rollouts, step: int) -> list[ScoredGroup]:
        """Wait for the scores of all completions, and normalise them within each group."""
        self._hidden_seconds += rollouts.scoring.seconds_at_work()
        with self.watch.timed("reward"), self.barrier.guard():
            scores = rollouts.scoring.scores(self.monitor.policy.reward_timeout)
        stale = rollouts.sampled_at < step
        return [self._scored(group, row, stale) for group, row in zip(rollouts.groups, scores, strict=True)]

    def _scored(self, group: Group, scores: Sequence[Score], stale: bool) -> ScoredGroup:
        penalties = self.overlong.penalties(group, self.sampling.max_tokens)
        advantages = self.overlong.mask(group, self.advantage(scores, penalties))
        return ScoredGroup(group, tuple(scores), advantages, stale, penalties)

    def observe_step(self) -> None:
        """Tell the task sampler what the step that has just been finished was trained on."""
        self.data.task_sampler.observe(self.trained, self._replaced)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the last step that concern sampling, rewards' own metrics and failures, by name."""
        trained = staleness(self.trained)
        metrics = {"seconds/reward_hidden": self._hidden_seconds}
        if self.settings.async_rewards:
            metrics["stale_groups"] = trained["stale_groups"]
        if self.settings.segment_tokens is not None:
            metrics |= {"carried_groups": float(self.partial.count)} | trained
        if self.settings.refill_rounds:
            metrics["replaced_groups"] = float(len(self._replaced))
        for name, task in self.tasks.items():
            metrics |= {f"{name}/{key}": value for key, value in task.rubric.metrics().items()}
        metrics |= self.data.task_sampler.metrics()
        return self.monitor.metrics() | {f"train/{name}": value for name, value in metrics.items()}

    def state_dict(self, steps_done: int) -> dict[str, Any]:
        """Return rollouts of unfinished steps, whose policy is gone; all processes must call it.

        Those that are being sampled are awaited. If that fails, a resumed run samples anew; this one learns of it in
        its next step.
        """
        if self._begun is not None and all(gather_rows([self._begun.completions.exception() is None])):
            self._end_begun(self._begun)
        pending = [one for step, one in sorted(self._pending.items()) if step >= steps_done]
        packed = [
            {"step": one.step, "sampled_at": one.sampled_at, "groups": pack(gather_rows(one.groups))}
            for one in pending
            if self.settings.async_rewards  # otherwise the present policy can sample them again
        ]
        return {"pending": self._packed + packed, "partial": self.partial.state_dict(steps_done)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state, once there is data."""
        self._packed = list(state["pending"])
        self.partial.packed = list(state["partial"])

    def _unpack(self) -> None:
        """Restore the rollouts of a checkpoint, and start to score them again."""
        if not (self._packed or self.partial.packed):
            return
        examples = {example.key: example for example in self.data.train}
        self.partial.unpack(examples)
        for one in self._packed:
            groups = unpack(one["groups"], examples)[process_rank() :: process_count()]
            scoring = self._scoring()
            scoring.add(dict(enumerate(groups)))
            scoring.complete()
            self._pending[one["step"]] = Rollouts(one["step"], one["sampled_at"], groups, scoring)
        self._packed = []

    def _refill(self, scored: list[ScoredGroup], step: int) -> tuple[list[ScoredGroup], list[ScoredGroup]]:
        """Replace groups without a signal by others of their task; return the groups to train on and the replaced."""
        requested, replaced = 0, []
        for refill in range(1, self.settings.refill_rounds + 1):
            # Where rewards failed, other prompts would meet the same.
            failed = [any(score.state is State.FAILED for score in one.scores) for one in scored]
            places = [place for place, one in enumerate(scored) if not one.has_signal and not failed[place]]
            wanted = gather_rows([(process_rank(), scored[place].task) for place in places])
            if not wanted:
                break
            further = self.data.more(step, requested, [task for _, task in wanted])
            requested += len(further)
            own = [e for e, (rank, _) in zip(further, wanted, strict=True) if rank == process_rank()]
            fresh = self.score(self.generate(own, step, step, refill), step)
            for place, group in zip(places, fresh, strict=True):
                replaced.append(scored[place])
                scored[place] = group
        return scored, replaced

    def _admit(self, batch: Sequence[Example], step: int) -> list[Example]:
        """Leave out tasks that are paused because their rewards fail."""
        return self.monitor.admit(batch, step, list(self.stage.stage.mixture))

    def _ends_stage(self, step: int) -> bool:
        """Whether this step is its stage's last: rollouts outlive neither a stage nor its evaluation."""
        return step + 1 >= self.stage.end_step

    def _scoring(self) -> BatchScoring:
        return BatchScoring({name: task.rubric for name, task in self.tasks.items()})


def _request(groups: Sequence[PartialGroup], sampling: Sampling, scoring: BatchScoring) -> tuple[Any, ...]:
    """Return the arguments of ``RolloutEngine.generate`` that continue groups and start to score the complete ones."""

    def finished(place: int, completions: tuple[Completion, ...]) -> None:
        done = groups[place].with_completions(completions)
        if done.is_complete(sampling):
            scoring.add({place: done.group})

    prompts, seeds = [one.group.prompt_ids for one in groups], [one.seed for one in groups]
    return prompts, sampling, seeds, finished, [one.group.completions for one in groups]
