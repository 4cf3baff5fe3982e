"""Rewards of another range than [0, 1]: declared, kept to, and trained and evaluated like any other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import lightning as L
import pytest
import torch

from benchmarks.ours import Arithmetic, OneStage
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.samplers import learnability
from omnithink_pl.errors import BadInput, RewardFailure
from omnithink_pl.evaluation.scorer import Interval, PromptOutcomes, mean_interval
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.kl_control import KLSettings
from omnithink_pl.grpo.metrics import rollout_metrics
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.rewards import Reward, Rubric
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.tasks import Custom, Task
from omnithink_pl.types import Component, Example, Group, Outcome, Range, Score
from tests.modules.test_sft import QUIET
from tests.rewards.groups import group


class Brevity(Reward):
    """-1 for each ten characters of an answer, at least -3; undefined for an empty one."""

    name = "brevity"
    awaits = "group"
    range: Range = (-3.0, 0.0)

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        return [[self.outcome(c.text) for c in group.completions] for group in groups]

    def outcome(self, text: str) -> Outcome:
        return Outcome.of(max(self.range[0], -len(text) / 10)) if text else Outcome.undefined("empty")


class Unbounded(Brevity):
    """Does not keep to its range."""

    def outcome(self, text: str) -> Outcome:
        return Outcome.of(-float(len(text)))


class Brief(Task):
    """Say as little as possible."""

    name = "math"
    metric = "accuracy"

    def ask(self, example: Example, rng: random.Random) -> str:
        return example.question


def scores(*values: float | None) -> tuple[Score, ...]:
    outcomes = [Outcome.undefined("empty") if value is None else Outcome.of(value) for value in values]
    layout = Component("format", 0.1, Outcome.of(1.0))
    return tuple(Score((Component("brevity", 1.0, one, Brevity.range), layout)) for one in outcomes)


def test_a_value_outside_the_declared_range_is_an_error_that_names_the_reward() -> None:
    asked = [group("", "12345", "123")]
    (row,) = Rubric(((Brevity(), 1.0),)).score(asked)
    assert [score.total for score in row] == pytest.approx([-0.5, -0.3])
    assert {component.range for score in row for component in score.components} == {(-3.0, 0.0)}
    with pytest.raises(RewardFailure, match=r"reward 'brevity' is -5 for task/row-7, outside its range \[-3, 0\]"):
        Rubric(((Unbounded(), 1.0),)).score(asked)


def test_a_function_has_the_range_that_its_task_gives() -> None:
    source = Arithmetic(2).source
    task = Custom(source, lambda completion, reference: -len(completion), range=(-5.0, 0.0))
    assert task.rubric.range == (-5.0, 0.0)
    (row,) = task.rubric.score([group("", "12345", "123")])
    assert [score.primary.value for score in row] == [-5.0, -3.0]
    with pytest.raises(RewardFailure, match=r"is -6 for task/row-7, outside its range \[-5, 0\]"):
        task.rubric.score([group("", "123456")])
    with pytest.raises(BadInput, match="declares its `range` itself"):
        Custom(source, Brevity(), range=(0.0, 1.0))
    task.close()


def test_not_a_number_and_infinity_are_no_values() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a reward is a finite number"):
            Outcome.of(value)


def test_advantages_are_those_of_the_same_rewards_moved_and_scaled() -> None:
    values = [-3.0, -1.5, 0.0, -0.5]
    unit = [
        Score((Component("r", 1.0, Outcome.of((value + 3.0) / 3.0)), Component("format", 0.1, Outcome.of(1.0))))
        for value in values
    ]
    assert GroupAdvantage()(scores(*values)) == pytest.approx(GroupAdvantage()(unit))
    assert GroupAdvantage()(scores(-2.0, -2.0)) == [0.0, 0.0]
    # Without an answer nothing is added, but what is reported is the least.
    assert GroupAdvantage(phantom_guard=True)(scores(-3.0, None)) == [0.0, 0.0]


def test_metrics_and_learnability_count_a_completion_without_an_answer_as_the_worst() -> None:
    asked = group("", "1", "2", task="math")
    record = ScoredGroup(asked, scores(0.0, None), (None, None)).record()
    assert rollout_metrics([record])["train/math/reward"] == pytest.approx(-1.5)
    assert learnability(record) == pytest.approx(1.0)  # the greatest: half best, half worst


def test_an_interval_is_that_of_the_same_scores_scaled_and_stays_in_the_range() -> None:
    prompts = PromptOutcomes("a", (Outcome.of(-3.0), Outcome.undefined("empty"), Outcome.of(0.0)), range=(-3.0, 0.0))
    assert prompts.values == [-3.0, -3.0, 0.0]
    unit = mean_interval([[0.0, 1.0], [1.0, 1.0], [0.0]])
    found = mean_interval([[-3.0, 0.0], [0.0, 0.0], [-3.0]], (-3.0, 0.0))
    assert [found.mean, found.low, found.high] == pytest.approx([3 * x - 3 for x in (unit.mean, unit.low, unit.high)])
    assert mean_interval([[0.0]], (-3.0, 0.0)).high == 0.0
    mean = Interval.average([found, Interval(-1.0, -3.0, 0.0)])
    assert -3.0 <= mean.low <= mean.mean <= mean.high <= 0.0


class Watched(L.Callback):
    """What each step measured."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *arguments: Any) -> None:
        self.metrics.append(module.last_metrics)


def test_a_penalty_can_be_trained_on() -> None:
    data = MultiTaskData({"math": Brief(Arithmetic(2).source, Brevity())}, batch_size=2)
    module = MultiTaskGRPO(
        engine=TransformersEngine(),
        tasks=data.tasks,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
        sampling=Sampling(4, max_tokens=12),
        kl=KLSettings({"math": 0.0}),
    )
    watched = Watched()
    callbacks = [OneStage(Stage({"math": 1.0}, 2)), watched]
    trainer = L.Trainer(**QUIET, devices=1, callbacks=callbacks, use_distributed_sampler=False)
    trainer.fit(module, datamodule=data)
    assert len(watched.metrics) == 2
    assert all(-3.0 <= step["train/math/reward"] < 0.0 for step in watched.metrics)
    assert any(step["train/math/no_signal_groups"] < 1.0 for step in watched.metrics)
