"""The metrics against independent references, as ``evaluate`` computes them, offline."""

from __future__ import annotations

import itertools
from math import comb
from statistics import fmean

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.scorer import wilson
from omnithink_pl.evaluation.suite_scores import METRICS, VerdictMetric, pass_at_k, summarise


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_a_mean_with_an_interval(metric: str) -> None:
    found = summarise(metric, [[1.0]] * 12 + [[0.0]] * 8, [""] * 20)
    score = found[metric]
    assert (score.mean, score.low, score.high) == pytest.approx((0.6, *wilson(0.6, 20.0)))
    assert found["categories"] == {}


def test_the_metric_can_be_used_as_evaluate_has_it() -> None:
    metric = VerdictMetric("accuracy", keep_in_memory=True)
    metric.add_batch(verdicts=[[1.0, 0.0], [1.0]], categories=["a", "b"])
    assert metric.compute()["accuracy"].mean == pytest.approx(0.75)


def test_categories_are_reported_and_the_score_is_the_micro_average() -> None:
    verdicts = [[1.0]] * 9 + [[0.0]] + [[0.0]] * 2
    found = summarise("exact_match", verdicts, ["law"] * 10 + ["biology"] * 2)
    assert {name: score.mean for name, score in found["categories"].items()} == {
        "biology": 0.0,
        "law": pytest.approx(0.9),
    }
    assert found["exact_match"].mean == pytest.approx(9 / 12)


@pytest.mark.parametrize(("n", "passed", "k"), list(itertools.product([1, 4, 7], [0, 1, 3, 7], [1, 2, 4, 7])))
def test_pass_at_k_is_the_share_of_draws_of_k_with_a_program_that_passes(n: int, passed: int, k: int) -> None:
    if passed > n or k > n:
        with pytest.raises(ValueError, match="makes no sense"):
            pass_at_k(n, passed, k)
        return
    draws = list(itertools.combinations([True] * passed + [False] * (n - passed), k))
    assert len(draws) == comb(n, k)
    assert pass_at_k(n, passed, k) == pytest.approx(fmean(any(draw) for draw in draws))


def test_pass_at_k_is_given_for_every_k_that_all_prompts_allow() -> None:
    found = summarise("pass_at_1", [[1.0, *[0.0] * 9], [0.0] * 10], ["", ""])
    assert set(found) == {"pass_at_1", "pass_at_5", "pass_at_10", "categories"}
    assert [found[f"pass_at_{k}"].mean for k in (1, 5, 10)] == pytest.approx([0.05, 0.25, 0.5])
    assert set(summarise("pass_at_1", [[1.0] * 10, [0.0] * 4], ["", ""])) == {"pass_at_1", "categories"}


def test_ties_are_half_a_win_and_the_raw_rate_has_none() -> None:
    found = summarise("win_rate", [[1.0, 0.5], [0.5, 0.0], [1.0, 1.0]], ["writing"] * 3)
    assert [found[name].mean for name in ("win_rate", "raw", "ties")] == pytest.approx([4 / 6, 3 / 6, 2 / 6])


def test_prompts_without_a_verdict_are_left_out_and_none_at_all_is_refused() -> None:
    assert summarise("accuracy", [[], [1.0], [0.0]], ["", "", ""])["accuracy"].mean == 0.5
    for verdicts in ([], [[]]):
        with pytest.raises(BadInput, match="no completion has a verdict"):
            summarise("accuracy", verdicts, [""] * len(verdicts))


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="one of accuracy, exact_match, pass_at_1, win_rate, not 'bleu'"):
        summarise("bleu", [[1.0]], [""])
