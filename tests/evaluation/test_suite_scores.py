"""Scores of suites and domains, and when there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from omnithink_pl.evaluation.completions import Record
from omnithink_pl.evaluation.scorer import Interval, mean_interval
from omnithink_pl.evaluation.suite_scores import SuiteScore, score_domains, score_records


def record(uid: str, sample: int, state: str, value: float | None, reason: str = "") -> Record:
    return Record("math", uid, 1, sample, "algebra", "", 0, "stop", state, value, reason)


def scored(records: list[Record]) -> SuiteScore:
    suite: Any = SimpleNamespace(score_domain="math", task=SimpleNamespace(metric="accuracy"), version="1")
    return score_records("aime24", suite, records, 0.0)


def test_an_undefined_verdict_counts_0_and_a_failed_one_is_left_out() -> None:
    found = scored(
        [
            record("a", 0, "value", 1.0),
            record("a", 1, "undefined", None, "no answer segment"),
            record("b", 0, "value", 1.0),
            record("b", 1, "failed", None, "judge timed out: 60 s"),
        ]
    )
    assert found.score == mean_interval([[1.0, 0.0], [1.0]])
    assert (found.prompts, found.samples, found.undefined, found.failed) == (2, 2, 0.25, 0.25)
    assert found.reasons == {"no answer segment": 1, "judge timed out": 1}
    assert found.categories == {"algebra": found.score}


def test_a_prompt_that_could_not_be_scored_leaves_no_score() -> None:
    found = scored([record("a", 0, "value", 1.0), record("b", 0, "failed", None, "judge timed out: 60 s")])
    assert found.score is None
    assert found.problem == "1 of 2 prompts could not be scored: judge timed out: 60 s"


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
    assert domain.score is None
    assert domain.problem == "c was not asked for; b: no network"
