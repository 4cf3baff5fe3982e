"""Results of runs: from what was logged to scores by method."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnithink_pl.report.results import RunResult, StudyReader, final_scores, group_by_method
from omnithink_pl.study.definition import Definition, Run
from omnithink_pl.study.tracker import StudyTracker
from omnithink_pl.tracking import TrackingLogger
from tests.report.matrices import logged


def test_what_validate_logs_is_told_from_what_a_fit_logs() -> None:
    fit = {**logged(math=0.5), "eval/math/greedy": 0.6, "uncertainty/math/greedy_low": 0.5, "train/kl": 0.1}
    fit |= {"eval/mean": 0.5, "uncertainty/unmeasured_tasks": 0.0, "uncertainty/math/failed": 0.0}
    assert final_scores(fit, False) == {"math": 0.5, "math/greedy": 0.6}
    earlier = {"eval/math": 0.5, "eval/math/low": 0.4, "eval/math/greedy": 0.6, "eval/math/greedy_low": 0.5}
    assert final_scores({**earlier, "eval/mean": 0.5, "eval/math/failed": 0.0}, False) == final_scores(fit, False)
    held_out = {**logged(math=0.6, math__math=0.6, math__math__raw=0.4), "uncertainty/math/math/failed": 0.0}
    assert final_scores(held_out, True) == {"math/greedy": 0.6, "math/greedy/raw": 0.4}
    assert final_scores(logged(math=0.6, math__math_sampled=0.6), True) == {"math": 0.6}
    assert final_scores(logged(qa=0.5, qa__mmlu_pro=0.5), True)["qa/*"] == 0.5


def test_a_domain_follows_where_a_benchmark_is_cut_to_the_prompts_of_the_base() -> None:
    base = {"math/a": {"1": 1.0}, "math/b": {"1": 0.0}}
    ours = {"math/a": {"1": 0.0, "2": 1.0}, "math/b": {"1": 1.0}}
    runs = [
        RunResult("base", 0, scores={"math/a": 1.0, "math/b": 0.0, "math/*": 0.5}, prompts=base),
        RunResult("more", 0, scores={"math/a": 0.5, "math/b": 1.0, "math/*": 0.75}, prompts=ours),
    ]
    more = group_by_method("s", runs, [0], []).trained[0]
    assert more.scores == {"math/a": {0: 0.0}, "math/b": {0: 1.0}, "math/*": {0: 0.5}}


def test_categories_have_the_prompts_of_their_own(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Definition("asked", {"base": Run([], "validate", "base")}, [0], {}, tmp_path)
    tracker = StudyTracker(tracking_uri, "omnithink", study.describe())
    tracker.begin()
    for key, value in tracker.environment(study.jobs()[0]).items():
        monkeypatch.setenv(key, value)
    logger = TrackingLogger(tracking_uri=tracking_uri)
    rows = [("1", "law", 1.0), ("2", "law", 0.0), ("3", "physics", 1.0)]
    lines = [json.dumps({"uid": u, "category": c, "state": "value", "value": v}) for u, c, v in rows]
    logger.artifacts.text("\n".join(lines), "benchmarks/mmlu_pro.jsonl")
    logger.log_metrics(logged(qa=0.5, qa__mmlu_pro=0.5, qa__mmlu_pro__law=0.5), 0)
    logger.finalize("success")
    prompts = StudyReader(tracking_uri, "asked").read().base.prompts
    assert prompts["qa/mmlu_pro/law"] == {0: {"1": 1.0, "2": 0.0}}
    assert prompts["qa/mmlu_pro"] == {0: {"1": 1.0, "2": 0.0, "3": 1.0}}
