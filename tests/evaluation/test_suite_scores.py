"""Metrics of suites against independent references, and scores of suites and domains, and when there is none."""

from __future__ import annotations

import itertools
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completions import Record
from omnithink_pl.evaluation.scorer import Interval, mean_interval, wilson
from omnithink_pl.evaluation.suite_scores import (
    METRICS,
    SuiteScore,
    VerdictMetric,
    pass_at_k,
    score_domains,
    score_records,
    summarise,
)
from omnithink_pl.types import UNIT_RANGE, Range


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
    found = summarise("exact_match", [[1.0]] * 9 + [[0.0]] * 3, ["law"] * 10 + ["biology"] * 2)
    means = {name: score.mean for name, score in found["categories"].items()}
    assert means == pytest.approx({"biology": 0.0, "law": 0.9})
    assert found["exact_match"].mean == pytest.approx(9 / 12)


@pytest.mark.parametrize(("n", "passed", "k"), list(itertools.product([1, 4, 7], [0, 1, 3, 7], [1, 2, 4, 7])))
def test_pass_at_k_is_the_share_of_draws_of_k_with_a_program_that_passes(n: int, passed: int, k: int) -> None:
    if passed > n or k > n:
        with pytest.raises(ValueError, match="makes no sense"):
            pass_at_k(n, passed, k)
        return
    draws = itertools.combinations([True] * passed + [False] * (n - passed), k)
    assert pass_at_k(n, passed, k) == pytest.approx(fmean(any(draw) for draw in draws))


def test_pass_at_k_is_given_for_every_k_that_all_prompts_allow() -> None:
    found = summarise("pass_at_1", [[1.0, *[0.0] * 9], [0.0] * 10], ["", ""])
    assert set(found) == {"pass_at_1", "pass_at_5", "pass_at_10", "categories"}
    assert [found[f"pass_at_{k}"].mean for k in (1, 5, 10)] == pytest.approx([0.05, 0.25, 0.5])
    assert set(summarise("pass_at_1", [[1.0] * 10, [0.0] * 4], ["", ""])) == {"pass_at_1", "categories"}


def test_ties_are_half_a_win_and_the_raw_rate_has_none() -> None:
    found = summarise("win_rate", [[1.0, 0.5], [0.5, 0.0], [1.0, 1.0]], ["writing"] * 3)
    assert [found[name].mean for name in ("win_rate", "raw", "ties")] == pytest.approx([4 / 6, 3 / 6, 2 / 6])


def test_prompts_without_a_verdict_are_left_out_and_what_cannot_be_computed_is_refused() -> None:
    assert summarise("accuracy", [[], [1.0], [0.0]], ["", "", ""])["accuracy"].mean == 0.5
    for verdicts in ([], [[]]):
        with pytest.raises(BadInput, match="no completion has a verdict"):
            summarise("accuracy", verdicts, [""] * len(verdicts))
    with pytest.raises(ValueError, match="one of accuracy, exact_match, pass_at_1, win_rate, not 'bleu'"):
        summarise("bleu", [[1.0]], [""])


def record(uid: str, sample: int, state: str, value: float | None, reason: str = "") -> Record:
    return Record("math", uid, 1, sample, "algebra", "", 0, "stop", state, value, reason)


def scored(*records: Record, bounds: Range = UNIT_RANGE) -> SuiteScore:
    task = SimpleNamespace(metric="accuracy", rubric=SimpleNamespace(range=bounds))
    suite: Any = SimpleNamespace(score_domain="math", task=task, version="1")
    return score_records("aime24", suite, records, 0.0)


def test_an_undefined_verdict_counts_0_and_a_failed_one_is_left_out() -> None:
    found = scored(
        record("a", 0, "value", 1.0),
        record("a", 1, "undefined", None, "no answer segment"),
        record("b", 0, "value", 1.0),
        record("b", 1, "failed", None, "judge timed out: 60 s"),
    )
    assert found.score == mean_interval([[1.0, 0.0], [1.0]])
    assert (found.prompts, found.samples, found.undefined, found.failed) == (2, 2, 0.25, 0.25)
    assert found.reasons == {"no answer segment": 1, "judge timed out": 1}
    assert found.categories == {"algebra": found.score}


def test_scores_of_another_range_have_the_interval_of_the_same_scores_scaled() -> None:
    records = [record("a", 0, "value", -2.0), record("b", 0, "value", 4.0), record("c", 0, "undefined", None)]
    found = scored(*records, bounds=(-2.0, 4.0)).score
    same = mean_interval([[0.0], [1.0], [0.0]])  # no answer is the lowest
    assert found is not None
    assert [found.mean, found.low, found.high] == pytest.approx([6 * x - 2 for x in (same.mean, same.low, same.high)])


def test_a_prompt_that_could_not_be_scored_leaves_no_score() -> None:
    found = scored(record("a", 0, "value", 1.0), record("b", 0, "failed", None, "judge timed out: 60 s"))
    assert (found.score, found.problem) == (None, "1 of 2 prompts could not be scored: judge timed out: 60 s")


def suite_score(name: str, score: float | None, problem: str = "") -> SuiteScore:
    interval = None if score is None else Interval(score, score - 0.1, score + 0.1)
    return SuiteScore(name, "math", "accuracy", "1", interval, problem)


def test_a_domain_is_the_plain_mean_of_its_suites() -> None:
    # The paper's Table 2, base model: the mean of six is Table 1's 55.9.
    base = dict(zip("abcdef", [0.1533, 0.6250, 0.7299, 0.7820, 0.6434, 0.4207], strict=True))
    (domain,) = score_domains({name: suite_score(name, score) for name, score in base.items()}, {"math": list(base)})
    assert domain.score is not None
    assert domain.score.mean == pytest.approx(0.559, abs=5e-4)


def test_a_domain_without_one_of_its_suites_has_no_score_and_says_why() -> None:
    scores = {"a": suite_score("a", 0.5), "b": suite_score("b", None, "no network")}
    (domain,) = score_domains(scores, {"math": ["a", "b", "c"]})
    assert (domain.score, domain.problem) == (None, "c was not asked for; b: no network")
