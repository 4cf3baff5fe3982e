"""Scores a policy on the held-out prompts of its tasks, greedily and sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING, Any

from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore, backward_transfer, forgetting, mean
from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.metrics import Interval, mean_interval
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.types import Group, Outcome, Score, State

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.tasks.base import Task
    from omnithink_pl.types import Example


@dataclass(frozen=True)
class Scored:
    """Groups with the scores of their completions, in the same order."""

    groups: tuple[Group, ...]
    scores: tuple[tuple[Score, ...], ...]

    @property
    def outcomes(self) -> list[list[Outcome]]:
        """The primary reward of every completion, by group."""
        return [[score.primary for score in scores] for scores in self.scores]

    def part(self, places: slice) -> Scored:
        """The groups at some places."""
        return Scored(self.groups[places], self.scores[places])

    def of(self, task: str) -> Scored:
        """The groups of one task."""
        places = [place for place, group in enumerate(self.groups) if group.example.task == task]
        return Scored(tuple(self.groups[place] for place in places), tuple(self.scores[place] for place in places))

    def gathered(self) -> Scored:
        """The groups of all processes."""
        return Scored(tuple(gather_rows(list(self.groups))), tuple(gather_rows(list(self.scores))))


@dataclass(frozen=True)
class Measured:
    """What one process found out about a task."""

    greedy: Scored
    sampled: Scored


@dataclass(frozen=True)
class EvaluationResult:
    """One task's score, and the completions behind it."""

    score: TaskScore
    greedy: Scored
    sampled: Scored

    @property
    def unscored(self) -> str:
        """Why there is no score, where too many completions could not be scored; else empty."""
        if self.score.measured:
            return ""
        every = [outcome for scored in (self.greedy, self.sampled) for row in scored.outcomes for outcome in row]
        return next(outcome.reason for outcome in every if outcome.state is State.FAILED)

    def by_prompt(self) -> dict[str, list[Any]]:
        """The mean score of each prompt, by which two policies are compared prompt by prompt.

        Returns:
            Columns ``uid``, ``sampled`` and ``greedy``; a score is ``None`` where all completions failed to be scored.
        """
        columns = {"sampled": self.sampled, "greedy": self.greedy}
        means = {
            name: [round(fmean(own), 6) if own else None for own in values(scored.outcomes)]
            for name, scored in columns.items()
        }
        return {"uid": [group.example.uid for group in self.greedy.groups], **means}


class Evaluator:
    """Measures the primary reward on held-out prompts; format and tags do not count.

    Processes that train together divide the prompts among them, and all have the result.

    A completion without a defined score, such as one without an answer, counts 0. One that *we* failed to
    score is left out and counted in ``TaskScore.failed``; where too many of them failed there is no score (NaN).

    Args:
        prompts: Prompts per task, spread evenly over the held-out examples; all of them when null.
        samples: Completions per prompt at temperature 1, beside the greedy one.
        max_tokens: A completion without EOS is cut off here.
        top_p: Smallest set of tokens with at least this probability is sampled from.
        reward_timeout: Seconds that one reward may take for all of it, after which what it has not scored has failed:
            the last resort, for rewards have shorter limits of their own.
    """

    def __init__(
        self,
        prompts: int | None = 64,
        samples: int = 4,
        max_tokens: int = 64,
        top_p: float = 1.0,
        reward_timeout: float = 3600.0,
    ) -> None:
        for key, value in (("prompts", prompts), ("samples", samples), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise BadInput(f"evaluation.evaluator.{key} is {value}; it is at least 1")
        if reward_timeout <= 0:
            raise BadInput(f"evaluation.evaluator.reward_timeout is {reward_timeout}; use more than 0")
        self.prompts = prompts
        self.samples = samples
        self.max_tokens = max_tokens
        self.top_p = top_p
        self.reward_timeout = reward_timeout

    def evaluate(
        self,
        policy: Policy,
        engine: RolloutEngine,
        tasks: Mapping[str, Task],
        held_out: Mapping[str, Sequence[Example]],
        seed: int,
    ) -> dict[str, EvaluationResult]:
        """Score a policy on tasks: :meth:`measure` in every process, then :meth:`conclude`."""
        return self.conclude(self.measure(policy, engine, tasks, held_out, seed))

    def measure(
        self,
        policy: Policy,
        engine: RolloutEngine,
        tasks: Mapping[str, Task],
        held_out: Mapping[str, Sequence[Example]],
        seed: int,
    ) -> dict[str, Measured]:
        """Sample and score this process's share, without waiting for another process.

        The prompts of all tasks are sampled together, greedily and at temperature 1. Nothing is scored before that,
        since a judge may ask the same engine; then everything is scored at the same time.

        Args:
            policy: Encodes the prompts.
            engine: Attached to the policy; its weights are taken over first.
            tasks: Their rubrics score the completions.
            held_out: Examples of each task, with their prompts filled in.
            seed: Of the sampling.

        Raises:
            BadInput: If a task has no example.
        """
        chosen = {name: self.choose(held_out[name]) for name in tasks}
        for name, examples in chosen.items():
            if not examples:
                raise BadInput(f"task {name!r} has no held-out examples; check its source's test split")
        own = [example for examples in chosen.values() for example in examples[process_rank() :: process_count()]]
        prompts = [tuple(policy.encode(example.messages)) for example in own]
        seeds = keyed_seeds((example.key for example in own), seed)
        engine.sync()
        sampled: list[Group] = []
        for n, temperature, top_p in ((1, 0.0, 1.0), (self.samples, 1.0, self.top_p)):
            drawn = engine.generate(prompts, Sampling(n, temperature, top_p, self.max_tokens), seeds)
            sampled += map(Group, own, prompts, drawn)
        scores = score_batch(sampled, {name: task.rubric for name, task in tasks.items()}, self.reward_timeout)
        scored = Scored(tuple(sampled), tuple(map(tuple, scores)))
        greedy, by_chance = scored.part(slice(len(own))), scored.part(slice(len(own), None))
        return {name: Measured(greedy.of(name), by_chance.of(name)) for name in tasks}

    def conclude(self, measured: Mapping[str, Measured], max_failed: float = 1.0) -> dict[str, EvaluationResult]:
        """Put the shares of all processes together. All of them call it, and all have the result.

        Args:
            measured: By task.
            max_failed: Share of failed completions beyond which a task has no score: those that could be scored
                are then no fair sample, but for instance those whose verdicts a judge that is away had given before.
        """
        whole = {name: (own.greedy.gathered(), own.sampled.gathered()) for name, own in measured.items()}
        return {name: _summarise(*settings, max_failed) for name, settings in whole.items()}

    def choose(self, examples: Sequence[Example]) -> list[Example]:
        """``prompts`` examples at even distances, the same in every evaluation."""
        if self.prompts is None or self.prompts >= len(examples):
            return list(examples)
        return [examples[place * len(examples) // self.prompts] for place in range(self.prompts)]


def _summarise(greedy: Scored, sampled: Scored, max_failed: float) -> EvaluationResult:
    by_greed, by_chance = _interval(greedy, max_failed), _interval(sampled, max_failed)
    drawn = [outcome for outcomes in sampled.outcomes for outcome in outcomes]
    every = drawn + [outcome for outcomes in greedy.outcomes for outcome in outcomes]
    score = TaskScore(
        sampled=by_chance.mean,
        sampled_low=by_chance.low,
        sampled_high=by_chance.high,
        greedy=by_greed.mean,
        greedy_low=by_greed.low,
        greedy_high=by_greed.high,
        prompts=len(greedy.groups),
        samples=len(drawn) // len(sampled.groups),
        undefined=share(drawn, State.UNDEFINED),
        failed=share(every, State.FAILED),
    )
    return EvaluationResult(score, greedy, sampled)


def _interval(scored: Scored, max_failed: float) -> Interval:
    """The mean score, which is no number where too many completions failed to be scored."""
    found = values(scored.outcomes)
    failed = share([outcome for row in scored.outcomes for outcome in row], State.FAILED)
    return mean_interval(found) if any(found) and failed <= max_failed else Interval(nan, nan, nan)


def values(outcomes: Sequence[Sequence[Outcome]]) -> list[list[float]]:
    """Scores by prompt: 0 where undefined, nothing where failed."""
    return [
        [outcome.value or 0.0 for outcome in siblings if outcome.state is not State.FAILED] for siblings in outcomes
    ]


def share(outcomes: Sequence[Outcome], state: State) -> float:
    """Fraction of the outcomes in a state."""
    return sum(outcome.state is state for outcome in outcomes) / len(outcomes)


def evaluation_metrics(matrix: ScoreMatrix, trained: Sequence[Sequence[str]]) -> dict[str, float]:
    """The last row's scores, what was forgotten since row 0, and backward transfer.

    Args:
        matrix: Scores so far, with at least one row.
        trained: The tasks that each stage of the curriculum trains.

    Returns:
        Fractions in [0, 1] (differences in [-1, 1]) by metric name: ``eval/<task>`` is the score at
        temperature 1, ``eval/<task>/greedy`` the greedy one, ``forgetting/<task>`` is P_base - P_after. What needs
        the score of a task that was not measured is NaN: a mean over the others would be that of another set of tasks.
    """
    last = matrix.rows[-1]
    metrics = {"eval/unmeasured_tasks": float(sum(not score.measured for score in last.values()))}
    for task, score in last.items():
        metrics |= {
            f"eval/{task}": score.sampled,
            f"eval/{task}/low": score.sampled_low,
            f"eval/{task}/high": score.sampled_high,
            f"eval/{task}/greedy": score.greedy,
            f"eval/{task}/greedy_low": score.greedy_low,
            f"eval/{task}/greedy_high": score.greedy_high,
            f"eval/{task}/undefined": score.undefined,
            f"eval/{task}/failed": score.failed,
        }
    metrics["eval/mean"] = mean({task: score.sampled for task, score in last.items()})
    metrics["eval/mean/greedy"] = mean({task: score.greedy for task, score in last.items()})
    metrics |= _with_mean("forgetting", forgetting(matrix))
    metrics |= _with_mean("backward_transfer", backward_transfer(matrix, trained))
    return metrics


def _with_mean(prefix: str, values: dict[str, float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{prefix}/{task}": value for task, value in values.items()} | {f"{prefix}/mean": mean(values)}
