"""A study whose results are known beforehand, written to MLflow by the code that writes real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore
from omnithink_pl.evaluation.evaluator import evaluation_metrics
from omnithink_pl.evaluation.scorer import mean_interval
from omnithink_pl.study.definition import Definition, Run
from omnithink_pl.study.tracker import StudyTracker
from omnithink_pl.tracking import TrackingLogger

TASKS = ("code", "math", "qa", "writing")
BASE = (0.28, 0.38, 0.33, 0.30)
# Final chances: after the curriculum, after training on one task alone, and of a policy that no fit made.
FINALS = {
    "curriculum": (0.45, 0.52, 0.69, 0.80),
    "single_code": (0.58, 0.40, 0.33, 0.29),
    "single_math": (0.27, 0.72, 0.25, 0.30),
    "single_qa": (0.24, 0.26, 0.73, 0.28),
    "single_writing": (0.22, 0.30, 0.30, 0.80),
    "ties": (0.44, 0.56, 0.52, 0.55),
}


def write_study(uri: str, output: Path, seeds: Sequence[int], prompts: int, steps: int) -> None:
    """Carry out a study in which nothing is trained."""
    runs = {name: Run(paper=name) for name in FINALS}
    runs["ties"] = Run([], "validate", "TIES merging", "merging")
    study = Definition("synthetic", runs, seeds, {}, output)
    tracker = StudyTracker(uri, "omnithink", study.describe())
    tracker.begin()
    before = dict(os.environ)
    for job in study.jobs():
        os.environ.update(tracker.environment(job))
        logger = TrackingLogger(tracking_uri=uri)
        generator = np.random.default_rng([job.seed, list(FINALS).index(job.run)])
        if job.verb == "validate":
            _validated(logger, FINALS[job.run], generator, prompts)
        else:
            _fitted(logger, job.run, job.seed, generator, prompts, steps)
        logger.finalize("success")
    os.environ.clear()
    os.environ.update(before)
    tracker.end("FINISHED")


def _fitted(
    logger: TrackingLogger, name: str, seed: int, generator: np.random.Generator, prompts: int, steps: int
) -> None:
    order = TASKS if name == "curriculum" else (name.removeprefix("single_"),)
    stages = [{"tasks": {task: 1}, "steps": steps} for task in order]
    logger.artifacts.text(yaml.safe_dump({"curriculum": {"stages": stages}}), "config.yaml")
    matrix = ScoreMatrix()
    for row, label in enumerate(["base", *(f"{number} {task}" for number, task in enumerate(order, 1))]):
        # Row 0 is the same for all runs of a seed.
        source = generator if row else np.random.default_rng(seed)
        scores, columns = {}, {}
        for task, base, final in zip(TASKS, BASE, FINALS[name], strict=True):
            chance = base + row / len(order) * (final - base)
            easy = np.linspace(-0.25, 0.25, prompts)  # some prompts are easier than others, for every policy
            drawn = source.random((3, prompts)) < np.clip(chance + easy, 0, 1)
            sampled, greedy = drawn[:2].mean(axis=0).tolist(), drawn[2].astype(float).tolist()
            columns[task] = {"uid": [f"{task}{i}" for i in range(prompts)], "sampled": sampled, "greedy": greedy}
            one, two = mean_interval(drawn[:2].T.tolist()), mean_interval(drawn[2:].T.tolist())
            scores[task] = TaskScore(one.mean, one.low, one.high, two.mean, two.low, two.high, prompts, 2)
        matrix = matrix.add(label, scores)
        logger.artifacts.text(json.dumps(columns), f"prompt_scores/{row}.json")
    logger.artifacts.json(matrix.to_dict(), "score_matrix.json")
    for step in range(steps * len(order)):
        logger.log_metrics({f"train/{order[step // steps]}/reward": generator.random()}, step + 1)
    logger.log_metrics(evaluation_metrics(matrix, [[task] for task in order]), step=steps * len(order))


def _validated(logger: TrackingLogger, chances: Sequence[float], generator: np.random.Generator, prompts: int) -> None:
    """As ``validate`` logs held-out examples: a domain, a benchmark of its name, and a line for each completion."""
    for task, chance in zip(TASKS, chances, strict=True):
        drawn = generator.random(2 * prompts) < chance  # all held-out examples, of which a fit takes some
        shared = {"state": "value", "completion": "a text\u2028of two lines"}  # not escaped, as validate writes it
        lines = [
            json.dumps(shared | {"uid": f"{task}{i}", "value": float(v)}, ensure_ascii=False)
            for i, v in enumerate(drawn)
        ]
        logger.artifacts.text("\n".join(lines), f"benchmarks/{task}.jsonl")
        names = [end for name in (task, f"{task}/{task}") for end in (f"eval/{name}", f"uncertainty/{name}/low")]
        logger.log_metrics({name: float(drawn.mean()) for name in names}, 0)
