"""What the evaluator counts, with an engine and rewards whose answers are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from math import isnan
from threading import Event
from types import SimpleNamespace

import pytest

from omnithink_pl.evaluation.evaluator import Evaluator
from omnithink_pl.rewards import Reward, Rubric
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.types import Completion, Example, Group, Outcome
from tests.tiny import TinyPolicy, tiny_qwen

EXAMPLES = [Example("math", str(number), "?", "", ({"role": "user", "content": f"{number}"},)) for number in range(8)]


@dataclass
class Scripted:
    """An engine whose greedy completions say ``greedy`` and whose sampled ones say ``sampled``, in turn."""

    greedy: Sequence[str]
    sampled: Sequence[str]
    calls: list[tuple[int, Sampling, tuple[int, ...]]] = field(default_factory=list)
    synced: int = 0

    def attach(self, policy: object) -> None: ...

    def sync(self) -> None:
        self.synced += 1

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[tuple[Completion, ...]]:
        self.calls.append((len(prompts), sampling, tuple(seeds)))
        texts = self.greedy if sampling.temperature == 0 else self.sampled
        said = cycle(texts)
        return [tuple(Completion((5,), (-1.0,), next(said), "stop") for _ in range(sampling.n)) for _ in prompts]


class SaidSo(Reward):
    """Reads the outcome from the completion's text."""

    name = "accuracy"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        verdicts = {"undefined": Outcome.undefined("no answer"), "failed": Outcome.failed("broke")}
        return [[verdicts.get(c.text) or Outcome.of(float(c.text)) for c in group.completions] for group in groups]


class Always(Reward):
    """Stands for format and tags, which must not count."""

    name = "format"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        return [[Outcome.of(1.0) for _ in group.completions] for group in groups]


TASK = SimpleNamespace(name="math", rubric=Rubric(((SaidSo(), 1.0), (Always(), 0.1))))
POLICY = SimpleNamespace(encode=lambda messages: [7] * len(messages[0]["content"]))


def evaluate(engine: object, evaluator: Evaluator) -> object:
    return evaluator.evaluate(POLICY, engine, {"math": TASK}, {"math": EXAMPLES}, seed=11)["math"]  # type: ignore[dict-item, arg-type]


def test_scores_are_means_of_the_primary_reward_alone() -> None:
    score = evaluate(Scripted(["1", "0"], ["1", "0", "0", "0.5"]), Evaluator(8, 4)).score
    assert score.greedy == pytest.approx(0.5)
    assert score.sampled == pytest.approx(1.5 / 4)
    assert (score.prompts, score.samples, score.undefined, score.failed) == (8, 4, 0.0, 0.0)
    assert score.greedy_low < score.greedy < score.greedy_high
    assert score.sampled_low < score.sampled < score.sampled_high


def test_undefined_counts_zero_and_is_reported() -> None:
    score = evaluate(Scripted(["1"], ["1", "undefined", "1", "1"]), Evaluator(8, 4)).score
    assert score.sampled == pytest.approx(3 / 4)
    assert (score.undefined, score.failed) == (pytest.approx(1 / 4), 0.0)


def test_failed_is_left_out_and_reported() -> None:
    score = evaluate(Scripted(["1"], ["1", "failed", "0", "1"]), Evaluator(8, 4)).score
    assert score.sampled == pytest.approx(2 / 3)
    # One of four sampled and none of the greedy completions.
    assert (score.undefined, score.failed) == (0.0, pytest.approx(1 / 5))


def test_every_prompt_keeps_its_mean_score() -> None:
    found = evaluate(Scripted(["1", "failed"], ["1", "failed", "undefined", "0.5"]), Evaluator(2, 4)).by_prompt()
    assert found == {"uid": ["0", "4"], "sampled": [0.5, 0.5], "greedy": [1.0, None]}


def test_nothing_scored_is_no_score_and_says_why() -> None:
    result = evaluate(Scripted(["failed"], ["1"]), Evaluator(8, 1))
    assert not result.score.measured
    assert isnan(result.score.greedy)
    assert (result.score.sampled, result.score.failed) == (1.0, 0.5)
    assert result.unscored == "broke"


def test_too_few_scored_are_no_score_either() -> None:
    engine = Scripted(["1", "failed", "undefined", "1"], ["1"])
    own = Evaluator(8, 1).measure(POLICY, engine, {"math": TASK}, {"math": EXAMPLES}, seed=0)  # type: ignore[dict-item, arg-type]
    strict, lenient = (Evaluator(8, 1).conclude(own, share)["math"] for share in (0.2, 0.25))
    assert (strict.score.measured, strict.unscored) == (False, "broke")
    assert (lenient.score.greedy, lenient.unscored) == (pytest.approx(2 / 3), "")


class Hanging(Reward):
    """Never comes back by itself."""

    name = "slow"

    def __init__(self) -> None:
        self.released = Event()

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        self.released.wait()
        return [[Outcome.of(1.0) for _ in group.completions] for group in groups]


def test_a_reward_that_hangs_costs_its_own_task_only() -> None:
    hanging = Hanging()
    tasks = {"math": TASK, "code": SimpleNamespace(name="code", rubric=Rubric(((hanging, 1.0),)))}
    held_out = {name: [replace(example, task=name) for example in EXAMPLES] for name in tasks}
    evaluator = Evaluator(2, 1, reward_timeout=0.1)
    found = evaluator.evaluate(POLICY, Scripted(["1"], ["1"]), tasks, held_out, seed=0)  # type: ignore[arg-type]
    hanging.released.set()
    assert (found["math"].score.sampled, found["math"].unscored) == (1.0, "")
    assert (found["code"].score.measured, found["code"].unscored) == (False, "reward timed out")


def test_all_tasks_are_sampled_in_one_call_a_setting_and_told_apart_again() -> None:
    engine = Scripted(["1", "1", "0", "0"], ["1"])
    tasks = {"math": TASK, "qa": TASK}
    held_out = {name: [replace(example, task=name) for example in EXAMPLES] for name in tasks}
    found = Evaluator(2, 3).evaluate(POLICY, engine, tasks, held_out, seed=11)  # type: ignore[arg-type]
    assert [(calls, sampling.n) for calls, sampling, _ in engine.calls] == [(4, 1), (4, 3)]
    assert engine.synced == 1
    assert {name: result.score.greedy for name, result in found.items()} == {"math": 1.0, "qa": 0.0}
    assert {group.example.task for group in found["qa"].sampled.groups} == {"qa"}


def test_it_asks_for_greedy_and_for_temperature_one() -> None:
    engine = Scripted(["1"], ["1"])
    evaluate(engine, Evaluator(3, 4, 20, 0.9))
    assert [call[:2] for call in engine.calls] == [(3, Sampling(1, 0.0, 1.0, 20)), (3, Sampling(4, 1.0, 0.9, 20))]
    assert engine.synced == 1


def test_what_is_sampled_for_an_example_does_not_depend_on_how_many_there_are() -> None:
    engine = Scripted(["1"], ["1"])
    for prompts in (8, 4):
        evaluate(engine, Evaluator(prompts, 1, 20))
    all_of_them, every_second = engine.calls[1][2], engine.calls[3][2]
    assert len(set(all_of_them)) == 8
    assert every_second == all_of_them[::2]


def test_prompts_are_spread_evenly_and_always_the_same() -> None:
    chosen = [example.uid for example in Evaluator(3).choose(EXAMPLES)]
    assert chosen == ["0", "2", "5"]
    assert Evaluator(None).choose(EXAMPLES) == Evaluator(99).choose(EXAMPLES) == EXAMPLES


def test_no_examples_and_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="task 'math' has no held-out examples"):
        Evaluator().evaluate(POLICY, Scripted([], []), {"math": TASK}, {"math": []}, seed=0)  # type: ignore[dict-item, arg-type]
    with pytest.raises(ValueError, match=r"evaluation\.evaluator\.samples is 0"):
        Evaluator(samples=0)


def test_a_real_engine_gives_groups_and_scores_in_order() -> None:
    policy = TinyPolicy(tiny_qwen())
    engine = TransformersEngine()
    engine.attach(policy)  # type: ignore[arg-type]
    task = SimpleNamespace(name="math", rubric=Rubric(((Always(), 1.0),)))
    held_out = {"math": EXAMPLES}
    result = Evaluator(4, 2, 5).evaluate(policy, engine, {"math": task}, held_out, seed=0)["math"]  # type: ignore[dict-item, arg-type]
    assert [group.example.uid for group in result.sampled.groups] == ["0", "2", "4", "6"]
    assert [len(scores) for scores in result.sampled.scores] == [2, 2, 2, 2]
    assert [len(group.completions) for group in result.greedy.groups] == [1, 1, 1, 1]
    assert result.sampled.groups[1].prompt_ids == tuple(policy.encode(EXAMPLES[2].messages))
