"""The mean of a domain's benchmarks: resampled within each of them, against plain loops and the normal law."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import fmean, pvariance, quantiles

import numpy as np
import pytest

from omnithink_pl.report.estimates import difference, mean_score
from omnithink_pl.report.results import Method, RunResult, StudyReader, group_by_method
from omnithink_pl.study.definition import Definition, Run
from omnithink_pl.study.tracker import StudyTracker
from omnithink_pl.tracking import TrackingLogger

SIZES = {"math/aime24": 12, "math/math500": 90, "code/humaneval": 40}
DOMAINS = ["math/*", "code/*"]


def method(name: str, seed: int, seeds: int = 1, shift: float = 0.0) -> Method:
    """Benchmarks of very different size and noise, and the plain means of each domain's."""
    generator = np.random.default_rng(seed)
    prompts = {
        score: {
            s: {str(uid): float(v) for uid, v in enumerate(generator.random(n) < 0.3 + shift)} for s in range(seeds)
        }
        for score, n in SIZES.items()
    }
    scores = {score: {s: fmean(own.values()) for s, own in by_seed.items()} for score, by_seed in prompts.items()}
    for domain in ("math", "code"):
        own = [by_seed for score, by_seed in scores.items() if score.startswith(domain)]
        scores |= {f"{domain}/*": {s: fmean(by_seed[s] for by_seed in own) for s in range(seeds)}}
    return Method(name, scores, prompts)


ONE, OTHER = method("one", 0, shift=0.2), method("other", 1)


def paired(score: str) -> list[float]:
    ours, theirs = ONE.prompts[score][0], OTHER.prompts[score][0]
    return [ours[uid] - theirs[uid] for uid in ours]


def nested(columns: dict[str, list[float]]) -> float:
    """The mean over domains of the mean over benchmarks of the mean over prompts."""
    by_domain: dict[str, list[float]] = {}
    for score, values in columns.items():
        by_domain.setdefault(score.partition("/")[0], []).append(fmean(values))
    return fmean(fmean(own) for own in by_domain.values())


def test_a_difference_of_domain_means_is_that_of_a_plain_nested_bootstrap() -> None:
    columns = {score: paired(score) for score in SIZES}
    chance = random.Random(0)
    drawn = [nested({s: chance.choices(own, k=len(own)) for s, own in columns.items()}) for _ in range(1500)]
    ends = quantiles(drawn, n=40)
    found = difference(ONE, OTHER, DOMAINS).prompts
    assert found.value == pytest.approx(nested(columns))
    assert (found.low, found.high) == pytest.approx((ends[0], ends[-1]), abs=0.012)


def test_prompts_are_drawn_within_each_benchmark_however_many_it_has() -> None:
    """The variance of a stratified mean: pooling all prompts of a domain would give the small benchmark no weight."""
    found = difference(ONE, OTHER, ["math/*"]).prompts
    variance = sum(pvariance(paired(s)) / SIZES[s] / 4 for s in SIZES if s.startswith("math"))
    assert found.high - found.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.04)
    assert found == difference(ONE, OTHER, ["math/aime24", "math/math500"]).prompts


def test_one_seed_has_an_interval_over_the_prompts_of_a_domain() -> None:
    found = mean_score(ONE, ["math/*"])
    own = [list(ONE.prompts[score][0].values()) for score in SIZES if score.startswith("math")]
    reach = 1.96 * sum(pvariance(values) / len(values) / 4 for values in own) ** 0.5
    assert found.value == pytest.approx(fmean(map(fmean, own)))
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach), abs=0.02)


def test_means_of_other_benchmarks_have_no_interval_over_prompts() -> None:
    fewer = Method("fewer", {k: v for k, v in OTHER.scores.items() if k != "math/aime24"}, OTHER.prompts)
    assert fewer.components("math/*") == ["math/*"]  # the mean is not that of the benchmarks that are left
    found = difference(ONE, fewer, ["math/*"])
    assert (found.prompts.known, found.p) == (False, None)
    assert found.prompts.value == pytest.approx(ONE.scores["math/*"][0] - OTHER.scores["math/*"][0])


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
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    study = Definition("asked", {"base": Run([], "validate", "base")}, [0], {}, tmp_path)
    tracker = StudyTracker(uri, "omnithink", study.describe())
    tracker.begin()
    for key, value in tracker.environment(study.jobs()[0]).items():
        monkeypatch.setenv(key, value)
    logger = TrackingLogger(tracking_uri=uri)
    rows = [("1", "law", 1.0), ("2", "law", 0.0), ("3", "physics", 1.0)]
    lines = [json.dumps({"uid": u, "category": c, "state": "value", "value": v}) for u, c, v in rows]
    logger.artifacts.text("\n".join(lines), "benchmarks/mmlu_pro.jsonl")
    names = ("eval/qa", "eval/qa/mmlu_pro", "eval/qa/mmlu_pro/law")
    logger.log_metrics({end: 0.5 for name in names for end in (name, f"{name}/low")}, 0)
    logger.finalize("success")
    prompts = StudyReader(uri, "asked").read().base.prompts
    assert prompts["qa/mmlu_pro/law"] == {0: {"1": 1.0, "2": 0.0}}
    assert prompts["qa/mmlu_pro"] == {0: {"1": 1.0, "2": 0.0, "3": 1.0}}
