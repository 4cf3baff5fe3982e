"""Reads a study from MLflow: its definition, and of each finished run scores, prompts, stages and learning curves."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report.results import LETTER, ByPrompt, RunResult, StudyResults, gather
from omnithink_pl.tracking.artifacts import Artifacts
from omnithink_pl.tracking.runs import DEFINITION, FINGERPRINT, PARENT, RUN, SEED, find_study, search
from omnithink_pl.tracking.store import TrackingError, connect, guard

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


_EVAL = re.compile(r"eval/(.+)")
_VALIDATE = "validate"
_SAMPLED = "_sampled"  # ends the name of held-out examples that `validate` answers at temperature 1


class StudyStore:
    """A study in a tracking store.

    Args:
        uri: The store.
        name: The study.

    Raises:
        TrackingError: If the store cannot be opened or has no such study.
    """

    def __init__(self, uri: str, name: str) -> None:
        self.uri = uri
        self.name = name
        self._client: MlflowClient = connect(uri)
        self._parent = find_study(self._client, uri, name)

    @property
    def artifacts(self) -> Artifacts:
        """Where the files of the study go."""
        return Artifacts(self._client, str(self._parent.info.run_id), self.uri)

    def read(self) -> StudyResults:
        """What the study's runs measured, as they are now defined: those of earlier definitions are left out.

        Raises:
            TrackingError: If no run has finished.
        """
        definition = json.loads(self._text(self._parent, DEFINITION) or "{}")
        if not definition:
            raise TrackingError(f"study {self.name!r} at {self.uri} has no {DEFINITION}; run `study` again")
        with guard(self.uri, "read the study"):
            newest = self._finished()
            results: list[RunResult] = []
            missing: list[str] = []
            for name, about in definition["runs"].items():
                for seed in definition["seeds"]:
                    run = newest.get((name, str(seed), about["fingerprint"]))
                    if run is None:
                        missing.append(f"{name}/{seed}")
                    else:
                        results.append(self._result(run, name, seed, about))
        if not any(result.scores for result in results):
            raise TrackingError(f"study {self.name!r} at {self.uri}: no run with a score has finished yet")
        return gather(self.name, results, definition["seeds"], missing)

    def _finished(self) -> dict[tuple[str, str, str], Run]:
        tags = {PARENT: str(self._parent.info.run_id)}
        runs = search(self._client, [str(self._parent.info.experiment_id)], tags)
        done = [run for run in runs if run.info.status == "FINISHED" and FINGERPRINT in run.data.tags]
        done.sort(key=lambda run: run.info.start_time)
        return {(run.data.tags[RUN], run.data.tags[SEED], run.data.tags[FINGERPRINT]): run for run in done}

    def _result(self, run: Run, name: str, seed: int, about: Mapping[str, Any]) -> RunResult:
        plain = self._text(run, "score_matrix.json")
        matrix = None if plain is None else ScoreMatrix.from_dict(json.loads(plain))
        stages = self._stages(run) if matrix is not None else ()
        last = len(matrix.rows) - 1 if matrix is not None else 0
        return RunResult(
            run_id=str(run.info.run_id),
            run=name,
            method=str(about["method"]),
            seed=seed,
            paper=about.get("paper"),
            stages=stages,
            scores=final_scores(run.data.metrics, about["verb"] == _VALIDATE),
            base=_row_scores(matrix, 0),
            prompts=self._prompts(run, last) if matrix is not None else self._benchmark_prompts(run),
            base_prompts=self._prompts(run, 0) if matrix is not None else {},
            matrix=matrix,
            rewards=self._rewards(run, stages),
            seconds=((run.info.end_time or run.info.start_time) - run.info.start_time) / 1000,
        )

    def _prompts(self, run: Run, row: int) -> dict[str, ByPrompt]:
        columns = json.loads(self._text(run, f"prompt_scores/{row}.json") or "{}")
        found: dict[str, ByPrompt] = {}
        for task, scores in columns.items():
            for name, kind in ((task, "sampled"), (f"{task}/greedy", "greedy")):
                pairs = zip(scores["uid"], scores[kind], strict=True)
                found[name] = {uid: value for uid, value in pairs if value is not None}
        return found

    def _benchmark_prompts(self, run: Run) -> dict[str, ByPrompt]:
        """Of the verdicts that ``validate`` stores, one JSON object a line."""
        found: dict[str, ByPrompt] = {}
        for file in self._client.list_artifacts(run.info.run_id, "benchmarks"):
            stem = Path(file.path).stem
            if file.path.endswith(".jsonl"):
                rows = [json.loads(line) for line in (self._text(run, file.path) or "").split("\n") if line.strip()]
                name = re.compile(rf"eval/(\w+)/{re.escape(stem)}")
                for domain in {match[1] for key in run.data.metrics if (match := name.fullmatch(key))}:
                    found |= {_benchmark(domain, name): own for name, own in _with_categories(stem, rows).items()}
        return found

    def _stages(self, run: Run) -> tuple[Stage, ...]:
        config = yaml.safe_load(self._text(run, "config.yaml") or "") or {}
        stages = (config.get("curriculum") or {}).get("stages") or []
        return tuple(Stage(dict(stage["tasks"]), int(stage["steps"])) for stage in stages)

    def _rewards(self, run: Run, stages: tuple[Stage, ...]) -> dict[str, list[tuple[int, float]]]:
        tasks = dict.fromkeys(task for stage in stages for task in stage.tasks)
        names = {task: f"train/{task}/reward" for task in tasks if f"train/{task}/reward" in run.data.metrics}
        return {
            task: sorted((point.step, point.value) for point in self._client.get_metric_history(run.info.run_id, name))
            for task, name in names.items()
        }

    def _text(self, run: Run, path: str) -> str | None:
        """An artifact's text; ``None`` if the run has none of that name."""
        from mlflow.artifacts import load_text

        folder = str(Path(path).parent) if "/" in path else None
        if path not in {file.path for file in self._client.list_artifacts(run.info.run_id, folder)}:
            return None
        return str(load_text(f"{run.info.artifact_uri}/{path}"))


def final_scores(metrics: Mapping[str, float], validated: bool) -> dict[str, float]:
    """The last scores of a run by name, from the metrics that it logged.

    Args:
        metrics: The last value of each metric.
        validated: Whether ``validate`` logged them. What stands at a domain is then the mean of its benchmarks, and
            a benchmark that has the domain's name is its held-out examples, answered greedily, or, with ``_sampled``
            behind it, at temperature 1.
    """
    found: dict[str, float] = {}
    for key, value in metrics.items():
        match = _EVAL.fullmatch(key)
        # A score has its interval beside it; whatever else stands under eval/ is no score.
        if match is None or not {f"{key}/low", f"{key}_low"} & set(metrics):
            continue
        domain, _, rest = match[1].partition("/")
        if not validated:
            found[match[1]] = value
        elif rest:
            found[_benchmark(domain, rest)] = value
        elif not {f"eval/{domain}/{domain}", f"eval/{domain}/{domain}{_SAMPLED}"} & set(metrics):
            found[f"{domain}/*"] = value
    return found


def verdicts(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Each prompt's mean over its completions: 0 where undefined, without those that failed."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.get("state") != "failed":
            values.setdefault(str(row["uid"]), []).append(float(row.get("value") or 0.0))
    return {uid: fmean(own) for uid, own in values.items()}


def _with_categories(stem: str, rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Verdicts by prompt of a benchmark, and of each of its categories."""
    categories = sorted({str(row["category"]) for row in rows if row.get("category")})
    by_category = {f"{stem}/{one}": verdicts([r for r in rows if r.get("category") == one]) for one in categories}
    return {stem: verdicts(rows), **by_category}


def _benchmark(domain: str, name: str) -> str:
    first, _, rest = name.partition("/")
    if first == f"{domain}{_SAMPLED}":
        return f"{domain}/{rest}" if rest else domain
    if first == domain and not domain.endswith(LETTER):  # held-out examples, answered greedily
        return f"{domain}/greedy/{rest}" if rest else f"{domain}/greedy"
    return f"{domain}/{name}"


def _row_scores(matrix: ScoreMatrix | None, row: int) -> dict[str, float]:
    if matrix is None:
        return {}
    scores = {task: score for task, score in matrix.rows[row].items() if score.measured}
    sampled = {task: score.sampled for task, score in scores.items()}
    return sampled | {f"{task}/greedy": score.greedy for task, score in scores.items()}
