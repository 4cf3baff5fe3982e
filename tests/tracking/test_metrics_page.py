from __future__ import annotations

import re
from pathlib import Path

from omnithink_pl.evaluation.benchmark_score import score_domains, score_records
from omnithink_pl.evaluation.journal import Record
from omnithink_pl.evaluation.summary import evaluation_metrics
from omnithink_pl.evaluation.validation import benchmark_metrics
from omnithink_pl.judge import Comparison, Preference
from omnithink_pl.judge.rounds import Judged
from omnithink_pl.judge.statistics import JudgeStatistics, Prices
from omnithink_pl.modules.failures import FailureMonitor, FailurePolicy
from omnithink_pl.modules.metrics import rollout_metrics, staleness, update_metrics
from omnithink_pl.modules.scored import ScoredGroup
from omnithink_pl.modules.update import TokenStats
from omnithink_pl.sandbox import RunOutcome, Verdict
from omnithink_pl.sandbox.throughput import Throughput
from omnithink_pl.tracking.logger import NON_FINITE
from omnithink_pl.transfer import ScoreMatrix, TaskScore
from omnithink_pl.types import Completion, Example, Group, Outcome
from tests.scores import score

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs" / "metrics.md").read_text().splitlines()
    if re.match(r"\| `(train|eval|forgetting|backward_transfer|final)/", line)
]
DOCUMENTED = {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])}


def logged() -> set[str]:
    """The names that the code makes, with the task written as the page writes it."""
    completion = Completion((1, 2), (-0.1, -0.2), "an answer", "stop")
    group = Group(Example("math", "row-1", "q", "r"), (3,), (completion, completion))
    failed = score(Outcome.failed("cause: details"))
    rollouts = [ScoredGroup(group, (score(1.0), failed), (1.0, None))]
    value = TaskScore(0.5, 0.4, 0.6, 0.5, 0.4, 0.6, 10, 2)
    matrix = ScoreMatrix()
    for label in ("base", "1 math", "2 code"):
        matrix = matrix.add(label, {"math": value})
    names = {
        *rollout_metrics(rollouts),
        *update_metrics([TokenStats("math", 2, 0.1, 1.0, 0, 0.0, 0.0)]),
        *evaluation_metrics(matrix, [["math"], ["code"]]),
        *(f"train/{name}" for name in staleness(rollouts)),
        *FailureMonitor(FailurePolicy(on_outage="pause")).metrics(),
        *(f"train/math/judge/{name}" for name in judge_metrics()),
        *(f"train/math/sandbox/{name}" for name in sandbox_metrics()),
        NON_FINITE,
    }
    names = {name.replace("/math", "/<task>").replace("/failed/cause", "/failed/<cause>") for name in names}
    return names | {name.replace("/aime24", "/<benchmark>") for name in benchmark_names()}


def benchmark_names() -> set[str]:
    """The names of a benchmark without categories, whose names are its own."""
    record = Record("math", "row-1", 1, 0, "", "2", 1, "stop", "value", 1.0, "")
    scored = score_records("aime24", "<task>", "accuracy", "1", [record], 0.0)
    return set(benchmark_metrics([scored], score_domains({"aime24": scored}, {"<task>": ["aime24"]})))


def judge_metrics() -> dict[str, float]:
    statistics = JudgeStatistics(Prices(1.0, 1.0))
    won = (Preference.WIN, Preference.WIN)
    statistics.judged([Judged(Comparison("q", candidate, "r"), won) for candidate in ("a", "aa")])
    statistics.count(rounds=4, replies=4)
    return statistics.metrics()


def sandbox_metrics() -> dict[str, float]:
    throughput = Throughput()
    with throughput.working(since=0.0) as verdicts:
        verdicts.append(Verdict(RunOutcome.PASSED, 1, 1))
    return throughput.metrics()


def test_every_metric_that_is_logged_is_on_the_page() -> None:
    assert logged() - DOCUMENTED == set()


def test_every_metric_has_a_unit_a_meaning_and_a_warning() -> None:
    assert len(ROWS) > 20
    for row in ROWS:
        assert len(row) == 4, row
        assert all(row), row


def test_no_metric_is_on_the_page_twice() -> None:
    names = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])]
    assert len(names) == len(set(names))
