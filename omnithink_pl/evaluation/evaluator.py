"""Stage evaluation: score a policy on the held-out prompts of its tasks, greedily and sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import count
from math import isnan, nan
from statistics import fmean
from typing import Any

from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore, backward_transfer, forgetting, mean
from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.scorer import (
    AFTER,
    UNCERTAINTY,
    PromptOutcomes,
    first_failure,
    mean_interval,
    sample_groups,
    share,
)
from omnithink_pl.model.policy import Policy
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.rollout.base import Finished, RolloutEngine, Sampling
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example, Group, Outcome, State

Progress = Callable[[int, int], None]  # takes the prompts that are done, and how many there are
# Each held-out prompt's outcomes: of the greedy completion, and of those sampled at temperature 1.
TaskOutcomes = list[tuple[PromptOutcomes, PromptOutcomes]]


@dataclass(frozen=True)
class Sample:
    """A completion to look at."""

    question: str
    completion: str
    outcome: Outcome  # of the primary reward
    uid: str


def sample_columns(samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[Any]]:
    """Return samples by task as the columns of a table."""
    rows = [
        {
            "completion": sample.completion,
            "reward": sample.outcome.shown,
            "task": task,
            "question": sample.question,
            "uid": sample.uid,
        }
        for task, own in samples.items()
        for sample in own
    ]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


@dataclass(frozen=True)
class EvaluationResult:
    """One task's score, and the outcomes it was computed from."""

    score: TaskScore
    greedy: tuple[PromptOutcomes, ...]
    sampled: tuple[PromptOutcomes, ...]  # at temperature 1; same prompts, same order

    @property
    def unscored(self) -> str:
        """Reason why the task has no score, where too many completions failed to be scored; else empty."""
        return "" if self.score.measured else first_failure(self.greedy + self.sampled)

    def samples(self, count: int) -> list[Sample]:
        """Return greedy completions of the first prompts."""
        return [Sample(one.question, one.texts[0], one.outcomes[0], one.uid) for one in self.greedy[:count]]

    def by_prompt(self) -> dict[str, list[Any]]:
        """Return the columns ``uid``, ``sampled`` and ``greedy``: the mean score of each prompt.

        By it two policies are compared prompt by prompt. ``None`` where all completions failed to be scored.
        """
        found: dict[str, list[Any]] = {"uid": [prompt.uid for prompt in self.greedy]}
        for name, prompts in (("sampled", self.sampled), ("greedy", self.greedy)):
            found[name] = [round(fmean(prompt.values), 6) if prompt.values else None for prompt in prompts]
        return found


class Evaluator:
    """Measures the primary reward on held-out prompts; format and tags do not count.

    The prompts are divided among the processes of a run, and all of them get the result. A completion without a
    defined score, such as one without an answer, counts 0. One that failed to be scored is left out and counted in
    ``TaskScore.failed``; a task with too many failures has no score (NaN).

    Args:
        prompts: Prompts per task, spread evenly over the held-out examples; all of them when null.
        samples: Completions per prompt at temperature 1, beside the greedy one.
        max_tokens: A completion without EOS is cut off here.
        top_p: Smallest set of tokens with at least this probability is sampled from.
        reward_timeout: Seconds that a reward may take for all completions; those not scored by then have failed. A
            last resort: rewards have shorter limits of their own.
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

    def choose(self, examples: Sequence[Example]) -> list[Example]:
        """Return ``prompts`` examples at even distances, the same in every evaluation."""
        if self.prompts is None or self.prompts >= len(examples):
            return list(examples)
        return [examples[place * len(examples) // self.prompts] for place in range(self.prompts)]

    def measure(
        self,
        policy: Policy,
        engine: RolloutEngine,
        tasks: Mapping[str, Task],
        held_out: Mapping[str, Sequence[Example]],
        seed: int,
        progress: Progress | None = None,
    ) -> dict[str, TaskOutcomes]:
        """Sample and score this process's share of the prompts, without waiting for other processes.

        The engine is attached to the policy; its weights are synced first. The prompts of all tasks, filled in in
        ``held_out``, are sampled together, greedily and at temperature 1. Scoring begins after that, since a judge may
        use the same engine; all rewards then run at the same time. :meth:`conclude` takes the result. ``progress`` is
        called as prompts are done, once greedily and once at temperature 1.
        """
        chosen = {name: self.choose(held_out[name]) for name in tasks}
        for name, examples in chosen.items():
            if not examples:
                raise BadInput(f"task {name!r} has no held-out examples; check its source's test split")
        # Every n-th prompt of each task: gather_rows restores the order of the whole.
        own = [example for examples in chosen.values() for example in examples[process_rank() :: process_count()]]
        prompts = [policy.encode(example.messages) for example in own]
        engine.sync()
        groups: list[Group] = []
        finished = None if progress is None else _counted(progress, 2 * len(own))
        for n, temperature, top_p in ((1, 0.0, 1.0), (self.samples, 1.0, self.top_p)):
            sampling = Sampling(n, temperature, top_p, self.max_tokens)
            groups += sample_groups(engine, own, prompts, sampling, seed, finished)
        scores = score_batch(groups, {name: task.rubric for name, task in tasks.items()}, self.reward_timeout)
        outcomes = [
            PromptOutcomes(
                group.example.uid,
                tuple(score.primary for score in row),
                range=tasks[group.example.task].rubric.range,
                question=group.example.question,
                texts=tuple(completion.text for completion in group.completions),
            )
            for group, row in zip(groups, scores, strict=True)
        ]
        found: dict[str, TaskOutcomes] = {name: [] for name in tasks}
        for example, greedy, sampled in zip(own, outcomes[: len(own)], outcomes[len(own) :], strict=True):
            found[example.task].append((greedy, sampled))
        return found

    def conclude(self, own: Mapping[str, TaskOutcomes], max_failed: float = 1.0) -> dict[str, EvaluationResult]:
        """Gather what all processes measured and score each task. Every process must call it.

        Above ``max_failed``, a share of failed completions, a task has no score: the ones that were scored are no fair
        sample, for instance only those whose verdicts were cached before the judge went away.
        """
        results = {}
        for name, part in own.items():
            greedy, sampled = zip(*gather_rows(part), strict=True)
            score = TaskScore(
                *_interval(sampled, max_failed),
                *_interval(greedy, max_failed),
                prompts=len(greedy),
                samples=len(sampled[0].outcomes),
                undefined=share(sampled, State.UNDEFINED),
                failed=share(sampled + greedy, State.FAILED),
            )
            results[name] = EvaluationResult(score, greedy, sampled)
        return results


def _counted(progress: Progress, total: int) -> Finished:
    """Return the function that an engine calls for each prompt that is done; it counts them."""
    numbers = count(1)
    return lambda index, completions: progress(next(numbers), total)


def _interval(prompts: Sequence[PromptOutcomes], max_failed: float) -> tuple[float, float, float]:
    """Return mean and ends of the interval; NaN where too many completions failed to be scored."""
    values = [prompt.values for prompt in prompts]
    if not any(values) or share(prompts, State.FAILED) > max_failed:
        return nan, nan, nan
    return astuple(mean_interval(values, prompts[0].range))


def evaluation_metrics(matrix: ScoreMatrix, trained: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the last row's scores, forgetting since row 0, and backward transfer; needs at least one row.

    Fractions in [0, 1] (differences in [-1, 1]) by metric name: ``eval/<task>`` is the score at temperature 1,
    ``eval/<task>/greedy`` the greedy one, ``forgetting/<task>`` is P_base - P_after. What says how far to trust a score
    stands under ``uncertainty/``, which trackers list last. A metric that needs the score of an unmeasured task is NaN:
    a mean over the others would be that of another set of tasks. ``trained`` has the tasks that each stage of the
    curriculum trains.
    """
    last = matrix.rows[-1]
    metrics = {"eval/mean": mean({task: score.sampled for task, score in last.items()})}
    metrics |= {f"eval/{task}": score.sampled for task, score in last.items()}
    metrics["eval/mean/greedy"] = mean({task: score.greedy for task, score in last.items()})
    metrics |= {f"eval/{task}/greedy": score.greedy for task, score in last.items()}
    changes = {"forgetting": forgetting(matrix), "backward_transfer": backward_transfer(matrix, trained)}
    for prefix, values in changes.items():
        if values:
            metrics |= {f"{prefix}/{task}": value for task, value in values.items()}
            metrics[f"{prefix}/mean"] = mean(values)
    return metrics | _uncertainty(last)


def summary_metrics(matrix: ScoreMatrix) -> dict[str, float]:
    """Return by which runs are compared, as ``after/...``: scores after the last stage, and what was forgotten by then.

    The name sorts before all others, so that trackers list these first. What could not be measured is left out.
    """
    scores = {task: score.sampled for task, score in matrix.rows[-1].items()}
    metrics: dict[str, float] = {}
    for kind, values in (("eval", scores), ("forgetting", forgetting(matrix))):
        if values:
            values = {"mean": mean(values), **values}
        metrics |= {f"{AFTER}/{kind}/{name}": value for name, value in values.items() if not isnan(value)}
    return metrics


def _uncertainty(row: Mapping[str, TaskScore]) -> dict[str, float]:
    metrics = {f"{UNCERTAINTY}/unmeasured_tasks": float(sum(not score.measured for score in row.values()))}
    for task, score in row.items():
        metrics |= {
            f"{UNCERTAINTY}/{task}/low": score.sampled_low,
            f"{UNCERTAINTY}/{task}/high": score.sampled_high,
            f"{UNCERTAINTY}/{task}/greedy_low": score.greedy_low,
            f"{UNCERTAINTY}/{task}/greedy_high": score.greedy_high,
            f"{UNCERTAINTY}/{task}/undefined": score.undefined,
            f"{UNCERTAINTY}/{task}/failed": score.failed,
        }
    return metrics
