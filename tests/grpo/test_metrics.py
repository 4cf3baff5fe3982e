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
    metrics = rollout_metrics(
        [
            scored("math", [score(1.0), score(0.0, layout=0.0, tags=0.5)], [4, 8], cut=1),
            scored("qa", [score(1.0), score(1.0)], [2, 2]),
        ]
    )
    assert metrics["train/math/reward"] == 0.5
    assert metrics["train/math/format"] == 0.5
    assert metrics["train/math/tags"] == 0.75
    assert metrics["train/math/total"] == pytest.approx((1.2 + 0.05) / 2)
    assert metrics["train/math/truncated"] == 0.5
    assert metrics["train/completion_length"] == 4.0
    assert metrics["train/reward"] == 0.75
    assert metrics["train/mixed_groups"] == metrics["train/no_signal_groups"] == 0.5


def test_undefined_counts_as_nothing_earned_and_failed_as_nothing_known() -> None:
    metrics = rollout_metrics([scored("math", [score(1.0), score(UNDEFINED), score(FAILED), score(1.0)], [1] * 4)])
    assert metrics["train/undefined"] == metrics["train/failed"] == 0.25
    assert metrics["train/reward"] == pytest.approx(2 / 3)


def test_token_statistics_are_means_over_tokens_not_over_completions() -> None:
    nothing = dict.fromkeys((field.name for field in fields(TokenStats)), 0.0)
    rows = [
        TokenStats(
            **nothing | {"task": "math", "tokens": 1, "kl": 0.4, "entropy": 1.0, "clipped": 1, "importance": 5.0}
        ),
        TokenStats(
            **nothing
            | {"task": "qa", "tokens": 3, "entropy": 3.0, "difference": 0.2, "difference_max": 0.2}
            | {"difference_kl": 0.4, "importance": 3.0, "capped": 1}
        ),
    ]
    metrics = update_metrics(rows)
    assert metrics["train/kl"] == pytest.approx(0.1)
    assert metrics["train/math/kl"] == pytest.approx(0.4)
    assert metrics["train/entropy"] == pytest.approx(1.0)
    assert metrics["train/clip_fraction"] == 0.25
    assert metrics["train/logprob_diff_mean"] == pytest.approx(0.05)
    assert metrics["train/logprob_diff_max"] == 0.2
    assert metrics["train/logprob_diff_kl"] == pytest.approx(0.1)
    assert metrics["train/importance_mean"] == pytest.approx(2.0)
    assert metrics["train/importance_capped"] == 0.25
    assert update_metrics([]) == {}
