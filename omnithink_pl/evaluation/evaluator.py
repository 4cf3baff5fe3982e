"""Scores a policy on one task's held-out prompts, greedily and sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnithink_pl.errors import RewardFailure
from omnithink_pl.evaluation.intervals import mean_interval
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.transfer import TaskScore
from omnithink_pl.types import Group, Outcome, Score, State

if TYPE_CHECKING:
    from omnithink_pl.policy import Policy
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


@dataclass(frozen=True)
class EvaluationResult:
    """One task's score, and the completions behind it."""

    score: TaskScore
    greedy: Scored
    sampled: Scored


class Evaluator:
    """Measures the primary reward on held-out prompts; format and tags do not count.

    A completion without a defined score, such as one without an answer, counts 0. One that *we* failed to
    score is left out and counted in ``TaskScore.failed``.

    Args:
        prompts: Prompts per task, spread evenly over the held-out examples; all of them when null.
        samples: Completions per prompt at temperature 1, beside the greedy one.
        max_tokens: A completion without EOS is cut off here.
        top_p: Smallest set of tokens with at least this probability is sampled from.
    """

    def __init__(self, prompts: int | None = 64, samples: int = 4, max_tokens: int = 64, top_p: float = 1.0) -> None:
        for key, value in (("prompts", prompts), ("samples", samples), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"evaluation.evaluator.{key} is {value}; it is at least 1")
        self.prompts = prompts
        self.samples = samples
        self.max_tokens = max_tokens
        self.top_p = top_p

    def evaluate(
        self, policy: Policy, engine: RolloutEngine, task: Task, examples: Sequence[Example], seed: int
    ) -> EvaluationResult:
        """Score a policy on a task.

        Args:
            policy: Encodes the prompts.
            engine: Attached to the policy; its weights are taken over first.
            task: Its rubric scores the completions.
            examples: Held-out examples with their prompts filled in.
            seed: Of the sampling.

        Raises:
            ValueError: If there is no example.
            RewardFailure: If every completion failed to be scored.
        """
        chosen = self.choose(examples)
        if not chosen:
            raise ValueError(f"task {task.name!r} has no held-out examples; check its source's test split")
        engine.sync()
        prompts = [tuple(policy.encode(example.messages)) for example in chosen]
        greedy = Sampling(1, 0.0, 1.0, self.max_tokens)
        sampled = Sampling(self.samples, 1.0, self.top_p, self.max_tokens)
        return _summarise(
            _score(engine, task, chosen, prompts, greedy, seed),
            _score(engine, task, chosen, prompts, sampled, seed),
        )

    def choose(self, examples: Sequence[Example]) -> list[Example]:
        """``prompts`` examples at even distances, the same in every evaluation."""
        if self.prompts is None or self.prompts >= len(examples):
            return list(examples)
        return [examples[place * len(examples) // self.prompts] for place in range(self.prompts)]


def _score(
    engine: RolloutEngine,
    task: Task,
    examples: Sequence[Example],
    prompts: Sequence[tuple[int, ...]],
    sampling: Sampling,
    seed: int,
) -> Scored:
    completions = engine.generate(prompts, sampling, keyed_seeds((example.key for example in examples), seed))
    groups = tuple(map(Group, examples, prompts, completions))
    scored = Scored(groups, tuple(tuple(scores) for scores in task.rubric.score(groups)))
    outcomes = [outcome for outcomes in scored.outcomes for outcome in outcomes]
    if all(outcome.state is State.FAILED for outcome in outcomes):
        raise RewardFailure(
            f"task {task.name!r}: none of {len(outcomes)} completions could be scored ({outcomes[0].reason}); mend "
            f"the cause and continue from the last checkpoint"
        )
    return scored


def _summarise(greedy: Scored, sampled: Scored) -> EvaluationResult:
    by_greed, by_chance = mean_interval(values(greedy.outcomes)), mean_interval(values(sampled.outcomes))
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


def values(outcomes: Sequence[Sequence[Outcome]]) -> list[list[float]]:
    """Scores by prompt: 0 where undefined, nothing where failed."""
    return [
        [outcome.value or 0.0 for outcome in siblings if outcome.state is not State.FAILED] for siblings in outcomes
    ]


def share(outcomes: Sequence[Outcome], state: State) -> float:
    """Fraction of the outcomes in a state."""
    return sum(outcome.state is state for outcome in outcomes) / len(outcomes)
