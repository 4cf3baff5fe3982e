"""A study whose results are known beforehand, written to MLflow by the parts that write real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore
from omnithink_pl.evaluation.evaluator import evaluation_metrics
from omnithink_pl.evaluation.scorer import mean_interval
from omnithink_pl.study.definition import Definition, Run
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.runs import StudyLedger

TASKS = ("code", "math", "qa", "writing")
BASE = (0.28, 0.38, 0.33, 0.30)
# After training on one task alone: row trained, column measured.
AFTER = ((0.58, 0.40, 0.33, 0.29), (0.27, 0.72, 0.25, 0.30), (0.24, 0.26, 0.73, 0.28), (0.22, 0.30, 0.30, 0.80))
FINALS = {
    "curriculum": (0.45, 0.52, 0.69, 0.80),
    "reverse": (0.56, 0.68, 0.55, 0.66),
    "joint": (0.62, 0.74, 0.74, 0.80),
    "sft": (0.40, 0.55, 0.50, 0.52),
}
ORDERS = {
    "curriculum": [["code"], ["math"], ["qa"], ["writing"]],
    "reverse": [["writing"], ["qa"], ["math"], ["code"]],
    "joint": [list(TASKS)],
    "sft": [list(TASKS)],
    **{f"single_{task}": [[task]] for task in TASKS},
}
CHANCES: Mapping[str, Sequence[float]] = {**FINALS, **{f"single_{t}": AFTER[i] for i, t in enumerate(TASKS)}}
NAMES = ("curriculum", "reverse", "joint", *(f"single_{task}" for task in TASKS), "sft", "ties")


def definition(output: Path, seeds: Sequence[int], names: Sequence[str] = NAMES) -> Definition:
    methods = {"sft": "rejection-sampling SFT", "ties": "TIES merging"}
    papers = {"ties": "merging"}
    runs = {
        name: Run([], "validate" if name == "ties" else "fit", methods.get(name), papers.get(name, name))
        for name in names
    }
    return Definition("synthetic", runs, seeds, {}, output)


def write_study(
    uri: str, output: Path, seeds: Sequence[int] = (0, 1, 2), prompts: int = 128, steps: int = 50,
    names: Sequence[str] = NAMES,
) -> None:  # fmt: skip
    """Carry out a study in which nothing is trained."""
    study = definition(output, seeds, names)
    ledger = StudyLedger(uri, "omnithink", study.describe())
    ledger.begin()
    before = dict(os.environ)
    for job in study.jobs():
        os.environ.update(ledger.environment(job))
        logger = TrackingLogger(tracking_uri=uri)
        generator = np.random.default_rng([job.seed, NAMES.index(job.run)])
        if job.run == "ties":
            _validated(logger, generator, prompts)
        else:
            _fitted(logger, job.run, job.seed, generator, prompts, steps)
        logger.finalize("success")
    os.environ.clear()
    os.environ.update(before)
    ledger.end("FINISHED")


def _fitted(
    logger: TrackingLogger, name: str, seed: int, generator: np.random.Generator, prompts: int, steps: int
) -> None:
    stages = [{"tasks": dict.fromkeys(tasks, 1), "steps": steps * len(tasks)} for tasks in ORDERS[name]]
    logger.artifacts.text(yaml.safe_dump({"curriculum": {"stages": stages}}), "config.yaml")
    matrix = ScoreMatrix()
    jitter = generator.normal(0, 0.02, 4)
    base = np.random.default_rng(seed)  # the same for all runs of a seed
    rows = [(BASE, base)]
    for index in range(len(stages)):
        share = (index + 1) / len(stages)
        rows.append(([b + share * (c + j - b) for b, c, j in zip(BASE, CHANCES[name], jitter, strict=True)], generator))
    for index, (chances, source) in enumerate(rows):
        scores = {}
        columns = {}
        for task, chance in zip(TASKS, chances, strict=True):
            easy = np.linspace(-0.25, 0.25, prompts)  # some prompts are easier than others, for every policy
            drawn = source.random((3, prompts)) < np.clip(chance + easy, 0, 1)
            sampled, greedy = drawn[:2].mean(axis=0), drawn[2].astype(float)
            columns[task] = {
                "uid": [f"{task}{i}" for i in range(prompts)],
                "sampled": sampled.tolist(),
                "greedy": greedy.tolist(),
            }
            one, two = mean_interval(drawn[:2].T.tolist()), mean_interval(drawn[2:].T.tolist())
            scores[task] = TaskScore(one.mean, one.low, one.high, two.mean, two.low, two.high, prompts, 2)
        matrix = matrix.add("base" if index == 0 else f"{index} {'+'.join(ORDERS[name][index - 1])}", scores)
        logger.artifacts.text(json.dumps(columns), f"prompt_scores/{index}.json")
    logger.artifacts.json(matrix.to_dict(), "score_matrix.json")
    if name != "sft":
        _rewards(logger, name, generator, steps)
    logger.log_metrics(evaluation_metrics(matrix, ORDERS[name]), step=steps * len(stages))


def _rewards(logger: TrackingLogger, name: str, generator: np.random.Generator, steps: int) -> None:
    step = 0
    for tasks in ORDERS[name]:
        length = steps * len(tasks)
        for done in range(length):
            step += 1
            rise = 1 - np.exp(-4 * (done + 1) / length)
            metrics = {
                f"train/{task}/reward": float(np.clip(base + rise * (own - base) + generator.normal(0, 0.08), 0, 1))
                for task, base, own in zip(TASKS, BASE, np.diagonal(AFTER), strict=True)
                if task in tasks
            }
            logger.log_metrics(metrics, step)


def _validated(logger: TrackingLogger, generator: np.random.Generator, prompts: int) -> None:
    """As ``validate`` logs held-out examples: a domain, a benchmark of its name, and a line for each verdict."""
    for task, chance in zip(TASKS, (0.44, 0.56, 0.52, 0.55), strict=True):
        drawn = generator.random(2 * prompts) < chance  # all held-out examples, of which a fit takes some
        shared = {"state": "value", "completion": "a text\u2028of two lines"}  # not escaped, as validate writes it
        lines = [
            json.dumps(shared | {"uid": f"{task}{i}", "value": float(v)}, ensure_ascii=False)
            for i, v in enumerate(drawn)
        ]
        logger.artifacts.text("\n".join(lines), f"benchmarks/{task}.jsonl")
        names = [f"eval/{task}", f"eval/{task}/{task}"]
        logger.log_metrics({end: float(drawn.mean()) for name in names for end in (name, f"{name}/low")}, 0)
