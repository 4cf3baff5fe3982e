"""The adaptive sampler: what it means by its formula, and what of it comes true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from omnithink_pl.data.samplers import AdaptiveSampler, learnability
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.types import Completion, Example, Group, Score
from tests.scores import FAILED, UNDEFINED, score

WEIGHTS = {"easy": 1.0, "even": 2.0, "hard": 1.0, "hopeless": 1.0}
RIGHT = {"easy": 0.97, "even": 0.5, "hard": 0.15, "hopeless": 0.0}  # chance that a completion is right
SIZES = dict.fromkeys(WEIGHTS, 10)


def group(task: str, scores: list[Score], uid: str = "row") -> ScoredGroup:
    made = Group(Example(task, uid, "?", "!"), (1,), (Completion((1,), (-1.0,), "", "stop"),) * len(scores))
    return ScoredGroup(made, tuple(scores), tuple(GroupAdvantage()(scores)))


GROUPS = {(task, n): group(task, [score(float(i < n)) for i in range(8)]) for task in RIGHT for n in range(9)}


def rolled(task: str, rng: np.random.Generator) -> ScoredGroup:
    return GROUPS[task, int(rng.binomial(8, RIGHT[task]))]


def shares(counts: Counter[str]) -> dict[str, float]:
    return {task: counts[task] / counts.total() for task in WEIGHTS}


@pytest.mark.parametrize("refilled", [False, True])
def test_the_realised_mixture_of_groups_with_a_signal_is_the_intended_one(refilled: bool) -> None:
    sampler = AdaptiveSampler(task_memory=200.0, least_acceptance=0.02)
    rng, drawn, taught = np.random.default_rng(1), Counter[str](), Counter[str]()
    intended = Counter[str]()
    for step in range(2500):
        batch = [rolled(task, rng) for task in sampler.draw(WEIGHTS, SIZES, 16, np.random.default_rng((3, step)))]
        replaced = [one for one in batch if refilled and not one.has_signal]
        batch = [rolled(one.task, rng) if refilled and not one.has_signal else one for one in batch]
        if step >= 500:
            drawn.update(one.task for one in batch)
            taught.update(one.task for one in batch if one.has_signal)
            for task, share in sampler.intended(WEIGHTS).items():
                intended[task] += share
        sampler.observe(batch, replaced)
    possible = {task: share for task, share in shares(intended).items() if RIGHT[task] > 0}
    meant = {task: share / sum(possible.values()) for task, share in possible.items()}
    assert shares(taught) == pytest.approx({**meant, "hopeless": 0.0}, abs=0.02)
    assert meant["even"] > 2 * meant["hard"] > 2 * meant["easy"], "or there would be nothing to see"
    assert shares(drawn)["even"] < meant["even"] - 0.1, "nor anything to correct"


def test_a_run_begins_with_the_stages_mixture() -> None:
    assert AdaptiveSampler().mixture(WEIGHTS, SIZES) == pytest.approx({t: w / 5 for t, w in WEIGHTS.items()})


def test_solved_and_hopeless_tasks_and_prompts_keep_a_floor() -> None:
    sampler = AdaptiveSampler(floor=0.2, task_memory=1.0, prompt_memory=1.0, least_acceptance=1.0)
    sampler.observe([group("easy", [score(1.0)] * 4, "solved"), group("even", [score(1.0), score(0.0)], "open")], [])
    assert sampler.intended({"easy": 1.0, "even": 1.0}) == pytest.approx({"easy": 1 / 6, "even": 5 / 6})
    rng = np.random.default_rng(0)
    for uid, task, kept in (("solved", "easy", 0.2), ("open", "even", 1.0), ("new", "easy", 1.0)):
        passed = [sampler.passes_over(Example(task, uid, "?", "!"), rng) for _ in range(4000)]
        assert 1 - np.mean(passed) == pytest.approx(kept, abs=0.03)


def test_a_task_is_overdrawn_at_most_so_much() -> None:
    sampler = AdaptiveSampler(task_memory=1.0, least_acceptance=0.25)
    sampler.observe([group("hopeless", [score(0.0)] * 4)], [])
    intended, drawn = sampler.intended(WEIGHTS), sampler.mixture(WEIGHTS, SIZES)
    assert drawn["hopeless"] == pytest.approx(4 * intended["hopeless"])
    assert drawn["even"] == intended["even"]


def test_groups_that_were_replaced_count_for_the_estimate_and_not_for_acceptance() -> None:
    sampler = AdaptiveSampler(task_memory=2.0)
    sampler.observe([group("even", [score(1.0), score(0.0)])], [group("even", [score(0.0), score(0.0)])])
    assert sampler.metrics() == {"even/learnability": 0.75, "even/acceptance": 1.0}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([score(1.0), score(0.0)], 1.0),
        ([score(1.0), score(0.0), score(0.0), score(0.0)], 0.75),
        ([score(0.5), score(0.5)], 0.0),
        ([score(1.0), score(UNDEFINED)], 1.0),
        ([score(1.0), score(FAILED), score(1.0)], 0.0),
        ([score(1.0), score(FAILED)], None),
        ([score(0.0), score(0.0, layout=0.0)], 0.0),
    ],
)
def test_learnability_is_four_times_the_variance_of_the_primary_reward(
    scores: list[Score], expected: float | None
) -> None:
    assert learnability(group("even", scores)) == expected


def test_its_state_survives_a_checkpoint_exactly(tmp_path) -> None:
    one, rng = AdaptiveSampler(), np.random.default_rng(5)
    for _ in range(50):
        one.observe([rolled(task, rng) for task in WEIGHTS], [])
    torch.save(one.state_dict(), tmp_path / "state")
    other = AdaptiveSampler()
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for step in range(20):
        mixtures = [sampler.mixture(WEIGHTS, SIZES) for sampler in (one, other)]
        assert mixtures[0] == mixtures[1]
        batch = [rolled(task, np.random.default_rng(step)) for task in WEIGHTS]
        for sampler in (one, other):
            sampler.observe(batch, [])


@pytest.mark.parametrize("wrong", [{"floor": 0.0}, {"task_memory": 0.5}, {"least_acceptance": 1.5}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=rf"data\.task_sampler\.init_args\.{next(iter(wrong))} is"):
        AdaptiveSampler(**wrong)
