from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from main import main
from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore
from omnithink_pl.data.demonstrations import COUNTED
from omnithink_pl.data.prepare import Prepared
from omnithink_pl.evaluation.completions import Record
from omnithink_pl.evaluation.evaluator import evaluation_metrics, summary_metrics
from omnithink_pl.evaluation.suite_scores import score_domains, score_records, suite_metrics
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy
from omnithink_pl.grpo.metrics import rollout_metrics, staleness, update_metrics
from omnithink_pl.grpo.update import TokenStats
from omnithink_pl.judge import Comparison, Preference
from omnithink_pl.judge.pairwise import JudgeStatistics, Judgment, Prices
from omnithink_pl.sandbox import RunOutcome, Verdict
from omnithink_pl.sandbox.hardened import Throughput
from omnithink_pl.tracking.logger import NON_FINITE
from omnithink_pl.types import UNIT_RANGE, Completion, Example, Group, Outcome
from tests.scores import score

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs" / "metrics.md").read_text().splitlines()
    if re.match(r"\| `(train|validation|eval|forgetting|backward_transfer|uncertainty|after|data|sft_data)/", line)
]
NAMES = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])]
DOCUMENTED = set(NAMES)


# What a metric depends on is set, so that all of them are logged.
EVERYTHING = [
    "fit",
    "--name=short",
    """--data.tasks!={math: {class_path: omnithink_pl.tasks.Math, init_args: {source:
        {class_path: omnithink_pl.embedded.EmbeddedMath}}}, qa: {class_path:
        omnithink_pl.tasks.QA, init_args: {source: {class_path: omnithink_pl.embedded.EmbeddedQA}}}}""",
    "--curriculum.stages=[{tasks: {math: 1}, steps: 2}, {tasks: {qa: 1}, steps: 2}]",
    "--curriculum.replay=0.25",
    "--data.batch_size=4",
    "--data.task_sampler=omnithink_pl.data.samplers.AdaptiveSampler",
    "--model.sampling.group_size=4",
    "--model.sampling.max_tokens=24",
    "--model.kl.beta!={math: 0.1, qa: 0.1}",
    "--model.kl.targets={math: 0.1, qa: 0.1}",
    "--model.rollouts={refill_rounds: 1, async_rewards: true}",
    "--model.overlong.cache=8",
    "--model.failures.on_outage=pause",
    "--model.rollouts.correction.level=token",
    "--learning_rate={warmup_steps: 1, decay: linear}",
    "--validation.every_n_steps=1",
    "--validation.evaluator={prompts: 2, samples: 1, max_tokens: 24}",
    "--evaluation.evaluator={prompts: 2, samples: 1, max_tokens: 24}",
]


def logged() -> set[str]:
    """The names that the code makes, with the task written as the page writes it."""
    completion = Completion((1, 2), (-0.1, -0.2), "an answer", "stop")
    group = Group(Example("math", "row-1", "q", "r"), (3,), (completion, completion))
    failed = score(Outcome.failed("cause: details"))
    rollouts = [ScoredGroup(group, (score(1.0), failed), (1.0, None)).record()]
    value = TaskScore(0.5, 0.4, 0.6, 0.5, 0.4, 0.6, 10, 2)
    matrix = ScoreMatrix()
    for label in ("base", "1 math", "2 code"):
        matrix = matrix.add(label, {"math": value})
    names = {
        *rollout_metrics(rollouts),
        *update_metrics([TokenStats("math", 2, 0.1, 1.0, 0, 0.0, 0.0)]),
        *evaluation_metrics(matrix, [["math"], ["code"]]),
        *summary_metrics(matrix),
        *(f"train/{name}" for name in staleness(rollouts)),
        *FailureMonitor(FailurePolicy(on_outage="pause")).metrics(),
        *(f"train/math/judge/{name}" for name in judge_metrics()),
        *(f"train/math/sandbox/{name}" for name in sandbox_metrics()),
        NON_FINITE,
        *Prepared("math", None, (1, 2), (3,)).metrics(),
        *(f"sft_data/math/{name}" for name in COUNTED),
    }
    names = {name.replace("/math", "/<task>").replace("/failed/cause", "/failed/<cause>") for name in names}
    return names | {name.replace("/aime24", "/<benchmark>") for name in benchmark_names()}


def benchmark_names() -> set[str]:
    """The names of a benchmark without categories, whose names are its own."""
    record = Record("math", "row-1", 1, 0, "", "2", 1, "stop", "value", 1.0, "")
    task = SimpleNamespace(metric="accuracy", rubric=SimpleNamespace(range=UNIT_RANGE))
    suite: Any = SimpleNamespace(score_domain="<task>", task=task, version="1")
    scored = score_records("aime24", suite, [record], 0.0)
    return set(suite_metrics([scored], score_domains({"aime24": scored}, {"<task>": ["aime24"]})))


def judge_metrics() -> dict[str, float]:
    statistics = JudgeStatistics(Prices(1.0, 1.0))
    won = (Preference.WIN, Preference.WIN)
    statistics.add([Judgment(Comparison("q", candidate, "r"), won, Preference.WIN) for candidate in ("a", "aa")])
    statistics.count(pairs=4, replies=4)
    return statistics.metrics()


def sandbox_metrics() -> dict[str, float]:
    throughput = Throughput()
    with throughput.working(since=0.0) as verdicts:
        verdicts.append(Verdict(RunOutcome.PASSED, 1, 1))
    return throughput.metrics()


def test_every_metric_that_is_logged_is_on_the_page() -> None:
    assert logged() - DOCUMENTED == set()


@pytest.mark.slow
def test_every_metric_of_a_run_with_all_options_is_on_the_page(tmp_path: Path, tracking_uri: str) -> None:
    from mlflow.tracking import MlflowClient

    places = [f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger.init_args.tracking_uri={tracking_uri}"]
    main([*EVERYTHING, *places])
    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    found = {re.sub(r"/(math|qa)(?=/|$)", "/<task>", name) for name in run.data.metrics}
    assert found <= DOCUMENTED
    # The options are at work.
    assert found >= {"validation/mean", "train/learning_rate", "train/<task>/beta", "train/<task>/acceptance"}
    assert found >= {"train/stale_groups", "train/replaced_groups", "after/eval/mean"}
    assert (Path(run.data.tags["folder"]) / "policy" / "config.json").is_file()


def test_every_metric_is_on_the_page_once_with_a_unit_a_meaning_and_a_warning() -> None:
    assert len(NAMES) == len(DOCUMENTED) > 20
    assert [row for row in ROWS if len(row) != 4 or not all(row)] == []
