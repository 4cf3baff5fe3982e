"""What the evaluator counts, with an engine and rewards whose answers are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from math import isnan
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from omnithink_pl.evaluation.evaluator import EvaluationResult, Evaluator
from omnithink_pl.rewards import Reward, Rubric
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.types import Completion, Example, Group, Outcome

EXAMPLES = [Example("math", str(number), "?", "", ({"role": "user", "content": f"{number}"},)) for number in range(8)]


@dataclass
class Scripted:
    """An engine whose greedy completions say ``greedy`` and whose sampled ones say ``sampled``, in turn."""

    greedy: Sequence[str]
    sampled: Sequence[str]
    calls: list[tuple[int, Sampling, tuple[int, ...]]] = field(default_factory=list)
    synced: int = 0

    def sync(self) -> None:
        self.synced += 1

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int], finished: object = None
    ) -> list[tuple[Completion, ...]]:
        self.calls.append((len(prompts), sampling, tuple(seeds)))
        said = cycle(self.greedy if sampling.temperature == 0 else self.sampled)
        return [
            tuple(Completion((5,), (-1.0,), next(said), "stop") for _ in range(sampling.group_size)) for _ in prompts
        ]


class SaidSo(Reward):
    """Reads the outcome from the completion's text."""

    name = "accuracy"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        verdicts = {"undefined": Outcome.undefined("no answer"), "failed": Outcome.failed("broke")}
        return [[verdicts.get(c.text) or Outcome.of(float(c.text)) for c in group.completions] for group in groups]


class Always(Reward):
    """Gives 1, once it is released."""

    name = "format"

    def __init__(self, hangs: bool = False) -> None:
        self.released = Event()
        if not hangs:
            self.released.set()

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        self.released.wait()
        return [[Outcome.of(1.0) for _ in group.completions] for group in groups]


def task(*rewards: tuple[Reward, float]) -> Any:
    return SimpleNamespace(rubric=Rubric(rewards))


SAID_SO = task((SaidSo(), 1.0), (Always(), 0.1))
POLICY: Any = SimpleNamespace(encode=lambda messages: [7] * len(messages[0]["content"]))


def evaluate(
    evaluator: Evaluator, engine: Any, tasks: dict[str, Any] | None = None, failed: float = 1.0
) -> dict[str, EvaluationResult]:
    tasks = tasks or {"math": SAID_SO}
    held_out = {name: [replace(example, task=name) for example in EXAMPLES] for name in tasks}
    return evaluator.conclude(evaluator.measure(POLICY, engine, tasks, held_out, seed=11), failed)


@pytest.mark.parametrize(
    ("sampled", "mean", "undefined", "failed"),
    [
        (["1", "0", "0", "0.5"], 1.5 / 4, 0.0, 0.0),
        (["1", "undefined", "1", "1"], 3 / 4, 1 / 4, 0.0),
        (["1", "failed", "0", "1"], 2 / 3, 0.0, 1 / 5),  # of all completions: one in four sampled, no greedy one
    ],
)
def test_scores_are_means_of_the_primary_reward_where_undefined_is_0_and_failed_left_out(
    sampled: list[str], mean: float, undefined: float, failed: float
) -> None:
    score = evaluate(Evaluator(8, 4), Scripted(["1", "0"], sampled))["math"].score
    assert (score.greedy, score.sampled) == pytest.approx((0.5, mean))
    assert (score.prompts, score.samples, score.undefined, score.failed) == (8, 4, undefined, pytest.approx(failed))
    assert score.greedy_low < score.greedy < score.greedy_high
    assert score.sampled_low < score.sampled < score.sampled_high


def test_every_prompt_keeps_its_mean_score() -> None:
    engine = Scripted(["1", "failed"], ["1", "failed", "undefined", "0.5"])
    found = evaluate(Evaluator(2, 4), engine)["math"].by_prompt()
    assert found == {"uid": ["0", "4"], "sampled": [0.5, 0.5], "greedy": [1.0, None]}


def test_nothing_or_too_little_scored_is_no_score_and_says_why() -> None:
    result = evaluate(Evaluator(8, 1), Scripted(["failed"], ["1"]))["math"]
    assert not result.score.measured
    assert isnan(result.score.greedy)
    assert (result.score.sampled, result.score.failed, result.unscored) == (1.0, 0.5, "broke")
    engine = Scripted(["1", "failed", "undefined", "1"], ["1"])
    strict, lenient = (evaluate(Evaluator(8, 1), engine, failed=share)["math"] for share in (0.2, 0.25))
    assert (strict.score.measured, strict.unscored) == (False, "broke")
    assert (lenient.score.greedy, lenient.unscored) == (pytest.approx(2 / 3), "")


def test_a_reward_that_hangs_costs_its_own_task_only() -> None:
    hanging = Always(hangs=True)
    tasks = {"math": SAID_SO, "code": task((hanging, 1.0))}
    found = evaluate(Evaluator(2, 1, reward_timeout=0.1), Scripted(["1"], ["1"]), tasks)
    hanging.released.set()
    assert (found["math"].score.sampled, found["math"].unscored) == (1.0, "")
    assert (found["code"].score.measured, found["code"].unscored) == (False, "reward timed out")


def test_all_tasks_are_sampled_in_one_greedy_call_and_one_at_temperature_one() -> None:
    engine = Scripted(["1", "1", "0", "0"], ["1"])
    found = evaluate(Evaluator(2, 3, 20, 0.9), engine, {"math": SAID_SO, "qa": SAID_SO})
    assert [call[:2] for call in engine.calls] == [(4, Sampling(1, 0.0, 1.0, 20)), (4, Sampling(3, 1.0, 0.9, 20))]
    assert engine.synced == 1
    assert {name: result.score.greedy for name, result in found.items()} == {"math": 1.0, "qa": 0.0}


def test_what_is_sampled_for_an_example_does_not_depend_on_how_many_there_are() -> None:
    engine = Scripted(["1"], ["1"])
    for prompts in (8, 4):
        evaluate(Evaluator(prompts, 1, 20), engine)
    all_of_them, every_second = engine.calls[1][2], engine.calls[3][2]
    assert len(set(all_of_them)) == 8
    assert every_second == all_of_them[::2]


def test_prompts_are_spread_evenly_and_always_the_same() -> None:
    assert [example.uid for example in Evaluator(3).choose(EXAMPLES)] == ["0", "2", "5"]
    assert Evaluator(None).choose(EXAMPLES) == Evaluator(99).choose(EXAMPLES) == EXAMPLES


def test_no_examples_and_bad_numbers_are_refused() -> None:
    engine: Any = Scripted([], [])
    with pytest.raises(ValueError, match="task 'math' has no held-out examples"):
        Evaluator().measure(POLICY, engine, {"math": SAID_SO}, {"math": []}, seed=0)
    with pytest.raises(ValueError, match=r"evaluation\.evaluator\.samples is 0"):
        Evaluator(samples=0)
