"""The results of a study, read from MLflow and grouped by method: what tables and figures are made of.

A *score* has a name: ``math`` is a task's held-out score sampled at temperature 1, ``math/greedy`` the greedy one,
``math/aime24`` a benchmark, ``qa/mmlu_pro/law`` one of its categories, and ``math/*`` the mean of a domain's
benchmarks. A domain that ends in ``_letter`` holds benchmarks answered with a letter; it is no task of its own. All
scores are fractions in [0, 1].
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage, with_lengths
from omnithink_pl.evaluation.scorer import UNCERTAINTY
from omnithink_pl.tracking import reader
from omnithink_pl.tracking.mlflow_artifacts import MLflowArtifacts
from omnithink_pl.tracking.reader import load_text
from omnithink_pl.tracking.store import TrackingError, connect, guard

if TYPE_CHECKING:
    from mlflow.entities import Run

ByPrompt = Mapping[str, float]  # score of each prompt, by uid
BASE = "base"
LETTER = "_letter"
_SAMPLED = "_sampled"  # suffix of held-out examples that `validate` answers at temperature 1
_ROUNDING = 1e-6


@dataclass(frozen=True)
class RunResult:
    """One finished run."""

    method: str  # name of its method in the report
    seed: int
    paper: str | None = None  # column of the paper's tables that it reproduces
    stages: tuple[Stage, ...] = ()  # stages of training, in order; empty for a run that only evaluates
    scores: Mapping[str, float] = field(default_factory=dict)  # final scores by name
    base: Mapping[str, float] = field(default_factory=dict)  # scores before training; empty if it only evaluates
    prompts: Mapping[str, ByPrompt] = field(default_factory=dict)  # final score of each prompt, by name of the score
    base_prompts: Mapping[str, ByPrompt] = field(default_factory=dict)  # the same before training
    matrix: ScoreMatrix | None = None  # the score matrix, if the run has one
    rewards: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)  # by task: (step, mean reward)

    @property
    def order(self) -> tuple[str, ...]:
        """The tasks in the order of the stages, if each stage trains one task and no task repeats; else empty."""
        tasks = [task for stage in self.stages for task, weight in stage.tasks.items() if weight > 0]
        return tuple(tasks) if len(set(tasks)) == len(tasks) == len(self.stages) else ()


@dataclass(frozen=True)
class Method:
    """The runs of one method, over its seeds."""

    name: str
    scores: Mapping[str, Mapping[int, float]]  # of each score, its value by seed
    prompts: Mapping[str, Mapping[int, ByPrompt]]  # of each score, the scores of its prompts by seed
    paper: str | None = None  # column of the paper's tables that it reproduces
    runs: tuple[RunResult, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """The order of its single-task stages; empty if it has none."""
        return next((run.order for run in self.runs if run.order), ())

    def components(self, score: str) -> list[str]:
        """Return the benchmarks of which a domain's mean ``math/*`` is the plain mean; any other score alone."""
        domain, _, rest = score.partition("/")
        if rest != "*":
            return [score]
        own = (name for name in self.scores if name.startswith(f"{domain}/") and name.count("/") == 1)
        benchmarks = sorted(name for name in own if name not in (score, f"{domain}/greedy"))
        for seed, value in self.scores.get(score, {}).items():
            found = [self.scores[name][seed] for name in benchmarks if seed in self.scores[name]]
            if not benchmarks or len(found) < len(benchmarks) or abs(fmean(found) - value) > _ROUNDING:
                return [score]  # the mean of other benchmarks, which are unknown
        return benchmarks


@dataclass(frozen=True)
class StudyResults:
    """The results of a study."""

    name: str
    methods: tuple[Method, ...]  # the base model first, then the methods in the order of the study
    seeds: tuple[int, ...]  # the seeds of the study's definition
    missing: tuple[str, ...] = ()  # runs that have not finished, such as ``joint/1``

    @property
    def base(self) -> Method:
        """The base model."""
        return self.methods[0]

    @property
    def trained(self) -> tuple[Method, ...]:
        """All methods but the base model."""
        return self.methods[1:]

    @property
    def tasks(self) -> list[str]:
        """Tasks or domains that have a score, in the order of the base model's, then of the others'."""
        names = [name.partition("/")[0] for method in self.methods for name in method.scores]
        return [name for name in dict.fromkeys(names) if not name.endswith(LETTER)]

    @property
    def single(self) -> dict[str, Method]:
        """The methods that train one task alone, by task; the first where there are several."""
        found: dict[str, Method] = {}
        for method in self.trained:
            if len(method.order) == 1:
                found.setdefault(method.order[0], method)
        return found

    def task_scores(self) -> dict[str, str]:
        """Return the score by which methods are compared on each task: of the one kind that all methods have.

        The mean of its benchmarks if all have one, else the score sampled at temperature 1, else the greedy one. Where
        there is no such kind, methods that lack a sampled score are left out of comparisons.
        """
        for kind in ("{}/*", "{}", "{}/greedy"):
            chosen = {task: kind.format(task) for task in self.tasks}
            if all(set(chosen.values()) <= set(method.scores) for method in self.methods):
                return chosen
        return {task: task for task in self.tasks if task in self.base.scores}

    def groups(self) -> dict[str, list[str]]:
        """Return the scores of each task, and of their ``mean``."""
        scores = self.task_scores()
        return {**{task: [score] for task, score in scores.items()}, "mean": list(scores.values())}


def group_by_method(name: str, runs: Sequence[RunResult], seeds: Sequence[int], missing: Sequence[str]) -> StudyResults:
    """Group runs by method; what they measured before training becomes the base model."""
    by_method: dict[str, list[RunResult]] = {}
    for run in runs:
        if run.method:
            by_method.setdefault(run.method, []).append(run)
    base = _base_model([run for own in by_method.values() for run in own], by_method.pop(BASE, []))
    methods = [_restrict(_method(name, own), base) for name, own in by_method.items() if any(r.scores for r in own)]
    return StudyResults(name, (base, *methods), tuple(seeds), tuple(missing))


def _method(name: str, runs: Sequence[RunResult]) -> Method:
    scores: defaultdict[str, dict[int, float]] = defaultdict(dict)
    prompts: defaultdict[str, dict[int, ByPrompt]] = defaultdict(dict)
    for run in runs:
        for score, value in run.scores.items():
            scores[score][run.seed] = value
        for score, by_prompt in run.prompts.items():
            prompts[score][run.seed] = by_prompt
    return Method(name, scores, prompts, next((run.paper for run in runs if run.paper), None), tuple(runs))


def _restrict(method: Method, base: Method) -> Method:
    """The method on the prompts that the base model answered, where it answered more, as ``validate`` does."""
    scores, prompts = dict(method.scores), dict(method.prompts)
    for score, by_seed in method.prompts.items():
        known = {uid for prompts_of_seed in base.prompts.get(score, {}).values() for uid in prompts_of_seed}
        kept = {seed: {uid: own[uid] for uid in own if uid in known} for seed, own in by_seed.items()}
        if all(kept.values()):
            prompts[score] = kept
            if any(len(kept[seed]) < len(by_seed[seed]) for seed in kept):
                scores[score] = {seed: fmean(own.values()) for seed, own in kept.items()}
    for score in method.scores:
        components = method.components(score)
        if any(scores[name] is not method.scores[name] for name in components if name != score):
            scores[score] = {seed: fmean(scores[name][seed] for name in components) for seed in scores[score]}
    return replace(method, scores=scores, prompts=prompts)


def _base_model(runs: Sequence[RunResult], own: Sequence[RunResult]) -> Method:
    """Scores that fits measured before training, the mean of those of a seed, and scores of runs named ``base``."""
    values: dict[str, dict[int, list[float]]] = {}
    prompts: dict[str, dict[int, ByPrompt]] = {}
    for run in runs:
        for score, value in run.base.items():
            values.setdefault(score, {}).setdefault(run.seed, []).append(value)
        for score, by_prompt in run.base_prompts.items():
            prompts.setdefault(score, {}).setdefault(run.seed, by_prompt)
    scores = {score: {seed: fmean(found) for seed, found in by_seed.items()} for score, by_seed in values.items()}
    evaluated = _method(BASE, own)
    return Method(BASE, {**scores, **evaluated.scores}, {**prompts, **evaluated.prompts}, BASE, tuple(own))


class StudyReader:
    """Reads a study from a tracking store."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri = uri
        self.name = name
        self._client = connect(uri)
        self._parent = reader.find_study(self._client, uri, name)
        self.artifacts = MLflowArtifacts(self._client, str(self._parent.info.run_id), uri)  # of the study's parent run

    def read(self) -> StudyResults:
        """Return the results of the study's present definition; runs of earlier definitions are left out."""
        with guard(self.uri, "read the study"):
            definition = json.loads(load_text(self._client, self._parent, reader.DEFINITION) or "{}")
            if not definition:
                raise TrackingError(f"study {self.name!r} at {self.uri} has no {reader.DEFINITION}; run `study` again")
            results: list[RunResult] = []
            missing: list[str] = []
            for name, about in definition["runs"].items():
                for seed in definition["seeds"]:
                    tags = reader.job_tags(self._parent.info.run_id, self.name, name, seed, about["fingerprint"])
                    runs = reader.search_runs(self._client, [self._parent.info.experiment_id], tags)
                    finished = [run for run in runs if run.info.status == "FINISHED"]
                    if finished:
                        results.append(self._result(max(finished, key=lambda run: run.info.start_time), seed, about))
                    else:
                        missing.append(f"{name}/{seed}")
        if not any(result.scores for result in results):
            raise TrackingError(f"study {self.name!r} at {self.uri}: no run with a score has finished yet")
        return group_by_method(self.name, results, definition["seeds"], missing)

    def _result(self, run: Run, seed: int, about: Mapping[str, Any]) -> RunResult:
        scores = final_scores(run.data.metrics, about["verb"] == "validate")
        result = RunResult(str(about["method"]), seed, about.get("paper"), scores=scores)
        plain = load_text(self._client, run, "score_matrix.json")
        if plain is None:
            return replace(result, prompts=self._benchmark_prompts(run))
        matrix = ScoreMatrix.from_dict(json.loads(plain))
        config = yaml.safe_load(load_text(self._client, run, "config.yaml") or "") or {}
        curriculum = config.get("curriculum") or {}
        stages = curriculum.get("stages") or []
        configured = [Stage(dict(stage["tasks"]), int(stage.get("steps") or 0)) for stage in stages]
        base = {task: score for task, score in matrix.rows[0].items() if score.measured}
        return replace(
            result,
            stages=tuple(with_lengths(configured, curriculum.get("steps") or {})),
            base={task: score.sampled for task, score in base.items()}
            | {f"{task}/greedy": score.greedy for task, score in base.items()},
            prompts=self._prompts(run, len(matrix.rows) - 1),
            base_prompts=self._prompts(run, 0),
            matrix=matrix,
            rewards={
                task: reader.metric_history(self._client, run.info.run_id, f"train/{task}/reward")
                for stage in stages
                for task in stage["tasks"]
                if f"train/{task}/reward" in run.data.metrics
            },
        )

    def _prompts(self, run: Run, row: int) -> dict[str, ByPrompt]:
        columns = json.loads(load_text(self._client, run, f"prompt_scores/{row}.json") or "{}")
        found: dict[str, ByPrompt] = {}
        for task, scores in columns.items():
            for name, kind in ((task, "sampled"), (f"{task}/greedy", "greedy")):
                pairs = zip(scores["uid"], scores[kind], strict=True)
                found[name] = {uid: value for uid, value in pairs if value is not None}
        return found

    def _benchmark_prompts(self, run: Run) -> dict[str, ByPrompt]:
        """Scores of prompts in the results that ``validate`` stores, one JSON object a line."""
        found: dict[str, ByPrompt] = {}
        for path in reader.list_files(self._client, run, "benchmarks"):
            if not path.endswith(".jsonl"):
                continue
            name, lines = Path(path).stem, (load_text(self._client, run, path) or "").split("\n")
            rows = [json.loads(line) for line in lines if line.strip()]
            own = {name: _prompt_means(rows)}
            for category in sorted({str(row["category"]) for row in rows if row.get("category")}):
                own[f"{name}/{category}"] = _prompt_means([row for row in rows if row.get("category") == category])
            metric = re.compile(rf"eval/(\w+)/{re.escape(name)}")
            for domain in {match[1] for key in run.data.metrics if (match := metric.fullmatch(key))}:
                found |= {_score_name(domain, score): by_prompt for score, by_prompt in own.items()}
        return found


def final_scores(metrics: Mapping[str, float], validated: bool) -> dict[str, float]:
    """Return the last scores of a run by name, from the last value of each metric that it logged.

    Of a run that ``validated``, a domain's value is the mean of its benchmarks, and a benchmark that has the domain's
    name is its held-out examples, answered greedily, or, with the suffix ``_sampled``, at temperature 1.
    """
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if not key.startswith("eval/"):
            continue
        name = key.removeprefix("eval/")
        # A score has an interval, in runs of earlier versions beside it; anything else under eval/ is no score.
        places = (f"{UNCERTAINTY}/{name}", key)
        if not {f"{place}{end}" for place in places for end in ("/low", "_low")} & set(metrics):
            continue
        domain, _, rest = name.partition("/")
        if not validated:
            found[name] = value
        elif rest:
            found[_score_name(domain, rest)] = value
        elif not {f"eval/{domain}/{domain}", f"eval/{domain}/{domain}{_SAMPLED}"} & set(metrics):
            found[f"{domain}/*"] = value
    return found


def _score_name(domain: str, name: str) -> str:
    first, _, rest = name.partition("/")
    if first == f"{domain}{_SAMPLED}":
        return f"{domain}/{rest}" if rest else domain
    if first == domain and not domain.endswith(LETTER):  # held-out examples, answered greedily
        return f"{domain}/greedy/{rest}" if rest else f"{domain}/greedy"
    return f"{domain}/{name}"


def _prompt_means(rows: Sequence[Mapping[str, Any]]) -> ByPrompt:
    """Each prompt's mean over its completions: undefined counts as 0, failed ones are left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.get("state") != "failed":
            values.setdefault(str(row["uid"]), []).append(float(row.get("value") or 0.0))
    return {uid: fmean(own) for uid, own in values.items()}
