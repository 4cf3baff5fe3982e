"""What a training step reports."""

from __future__ import annotations

from dataclasses import fields

import pytest

from omnithink_pl.grpo.advantage import GroupAdvantage, GroupRecord, ScoredGroup
from omnithink_pl.grpo.metrics import rollout_metrics, update_metrics
from omnithink_pl.grpo.update import TokenStats
from omnithink_pl.types import Completion, Example, Group, Score
from tests.scores import FAILED, UNDEFINED, score


def scored(task: str, scores: list[Score], lengths: list[int], cut: int = 0) -> GroupRecord:
    completions = tuple(
        Completion((1,) * n, (-1.0,) * n, "", "length" if i < cut else "stop") for i, n in enumerate(lengths)
    )
    group = Group(Example(task, "row", "?", "!"), (1, 2), completions)
    return ScoredGroup(group, tuple(scores), tuple(GroupAdvantage()(scores))).record()


def test_rewards_are_reported_apart_from_format_and_tags_and_by_task() -> None:
    math = scored("math", [score(1.0), score(0.0, layout=0.0, tags=0.5)], [4, 8], cut=1)
    metrics = rollout_metrics([math, scored("qa", [score(1.0), score(1.0)], [2, 2])])
    own = {"reward": 0.5, "format": 0.5, "tags": 0.75, "total": pytest.approx((1.2 + 0.05) / 2), "truncated": 0.5}
    assert {name: metrics[f"train/math/{name}"] for name in own} == own
    both = {"completion_length": 4.0, "reward": 0.75, "mixed_groups": 0.5, "no_signal_groups": 0.5}
    assert {name: metrics[f"train/{name}"] for name in both} == both


def test_undefined_counts_as_nothing_earned_and_failed_as_nothing_known() -> None:
    metrics = rollout_metrics([scored("math", [score(1.0), score(UNDEFINED), score(FAILED), score(1.0)], [1] * 4)])
    assert metrics["train/undefined"] == metrics["train/failed"] == 0.25
    assert metrics["train/reward"] == pytest.approx(2 / 3)


def test_token_statistics_are_means_over_tokens_not_over_completions() -> None:
    nothing = dict.fromkeys((field.name for field in fields(TokenStats)), 0.0)
    math = {"task": "math", "tokens": 1, "kl": 0.4, "entropy": 1.0, "clipped": 1, "importance": 5.0}
    qa = {"task": "qa", "tokens": 3, "entropy": 3.0, "difference": 0.2, "difference_max": 0.2}
    qa |= {"difference_kl": 0.4, "importance": 3.0, "capped": 1}
    metrics = update_metrics([TokenStats(**nothing | math), TokenStats(**nothing | qa)])
    expected = {"kl": 0.1, "math/kl": 0.4, "entropy": 1.0, "clip_fraction": 0.25, "logprob_diff_mean": 0.05}
    expected |= {"logprob_diff_max": 0.2, "logprob_diff_kl": 0.1, "importance_mean": 2.0, "importance_capped": 0.25}
    assert {name: metrics[f"train/{name}"] for name in expected} == pytest.approx(expected)
    assert update_metrics([]) == {}
