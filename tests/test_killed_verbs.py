"""Law 13 for verbs that do not train: ended anywhere, they lose nothing, and leave nothing half done that looks whole.

Each is run by real processes: once undisturbed, in which the moments are counted at which a file of its folder is
opened for writing, renamed or removed; then ended at some of these moments, and given again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_from_disk
from mlflow.tracking import MlflowClient

import main as program
from omnithink_pl.data.demonstrations import load_demonstrations
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completions import read_records
from omnithink_pl.merge.weights import find_model
from omnithink_pl.rollout.transformers import TransformersEngine
from tests.faults.disturber import _WRITES
from tests.merge.test_tool import tuned, weights
from tests.sources.copies import math_rows
from tests.suite import write_suite

pytestmark = pytest.mark.slow
KILLED, TERMINATED = -signal.SIGKILL, 128 + signal.SIGTERM
MOMENTS = [(0.4, signal.SIGKILL), (1.0, signal.SIGTERM)]


@dataclass(frozen=True)
class Verb:
    """A verb under test.

    Args:
        arguments: Of the command line, given the folder that it writes to and a folder with its inputs.
        outcome: Reads what it has made; raises or returns ``None`` where that is not there yet.
        tracked: Whether it has a run in the tracking store.
    """

    arguments: Callable[[Path, Path], list[str]]
    outcome: Callable[[Path], Any]
    tracked: bool = True


def tracked(directory: Path) -> list[str]:
    return [
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
        f"--trainer.default_root_dir={directory}",
    ]


def validate(directory: Path, inputs: Path) -> list[str]:
    output = f"--output={directory / 'out'}"
    return ["validate", f"--config={inputs / 'suite.yaml'}", output, "--chunk=4", *tracked(directory)]


def scores(directory: Path) -> Any:
    records = {path.name: read_records(path) for path in sorted((directory / "out").glob("*.jsonl"))}
    results = directory / "out" / "results.json"
    if not results.exists():
        return None
    found = json.loads(results.read_text())
    for score in found["benchmarks"].values():
        del score["seconds"]
    return found, records


def predict(directory: Path, inputs: Path) -> list[str]:
    return [
        "predict",
        f"--config={program.CONFIGS / 'sft_data.yaml'}",
        "--curriculum.stages=[{tasks: {math: 1, qa: 1}, steps: 3}]",
        "--model.sampling.group_size=1",
        "--data.batch_size=256",
        f"--demonstrations.output={directory / 'data'}",
        *tracked(directory),
    ]


def demonstrations(directory: Path) -> Any:
    try:
        load_demonstrations(directory / "data", {"math", "qa"})
    except BadInput:
        return None
    counts = directory / "data" / "counts.json"
    return load_from_disk(directory / "data" / "dataset").to_list(), json.loads(counts.read_text())


def prepare(directory: Path, inputs: Path) -> list[str]:
    source = {
        "class_path": "omnithink_pl.sources.OpenR1Math",
        "init_args": {"path": str(inputs / "rows.jsonl"), "curation": {"cache": str(directory / "cache")}},
    }
    tasks = {"math": {"class_path": "omnithink_pl.tasks.Math", "init_args": {"source": source}}}
    stages = "--curriculum.stages=[{tasks: {math: 1}, steps: 3}]"
    return ["prepare", f"--data.tasks!={json.dumps(tasks)}", stages, *tracked(directory)]


def cached(directory: Path) -> Any:
    found = [path for path in (directory / "cache").glob("*") if not path.name.startswith("unfinished-")]
    if not found:
        return None
    (folder,) = found
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def merge(directory: Path, inputs: Path) -> list[str]:
    return ["merge", f"--models=[{inputs / 'one'}, {inputs / 'two'}]", f"--output={directory / 'merged'}"]


def merged(directory: Path) -> Any:
    try:
        folder = find_model(str(directory / "merged"), "sqlite:///none.db")
    except BadInput:
        return None
    return {name: value.tolist() for name, value in weights(folder).items()}, (folder / "merge.json").read_bytes()


def study(directory: Path, inputs: Path) -> list[str]:
    run = {"verb": "merge", "arguments": merge(directory, inputs)[1:]}
    settings = {
        "name": "tiny",
        "runs": {"merge": run},
        "seeds": [0],
        "jobs": 1,
        "output": str(directory / "out"),
        "tracking_uri": f"sqlite:///{directory}/mlflow.db",
    }
    (directory / "study.yaml").write_text(yaml.safe_dump(settings))
    return ["study", f"--config={directory / 'study.yaml'}"]


VERBS = {
    "validate": Verb(validate, scores),
    "predict": Verb(predict, demonstrations),
    "prepare": Verb(prepare, cached),
    "merge": Verb(merge, merged, tracked=False),
    "study": Verb(study, merged),
}


def run(verb: Verb, directory: Path, inputs: Path, moment: int = -1, number: int = 0) -> int | None:
    """Run in a process of its own, which gets a signal at a moment; return the exit code.

    What it counts is added to ``counts``: moments, and calls of the engine.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_run, args=(verb.arguments(directory, inputs), directory, moment, number)
    )
    process.start()
    process.join()
    return process.exitcode


def _run(arguments: list[str], directory: Path, moment: int, number: int) -> None:
    log = os.open(directory.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = (open(handle, "w", buffering=1, closefd=False) for handle in (1, 2))
    warnings.resetwarnings()  # which pytest makes errors
    counts = os.open(directory.with_suffix(".counts"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sampled, seen, generate = iter(range(10**9)), iter(range(10**9)), TransformersEngine.generate

    @wraps(generate)  # the parser compares signatures
    def counted(*args: Any, **kwargs: Any) -> Any:
        found = generate(*args, **kwargs)
        os.write(counts, b"g" * bool(next(sampled)))  # the first call is the check at the start
        return found

    def watch(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & _WRITES
        if not writes and event not in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        if str(args[0]).startswith(f"{directory}/"):
            os.write(counts, b"f")
            if next(seen) == moment:
                os.kill(os.getpid(), number)

    TransformersEngine.generate = counted  # type: ignore[method-assign]
    sys.addaudithook(watch)
    sys.argv = [str(program.CONFIGS.parent / "main.py"), *arguments]
    program.command()


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run."""

    inputs: Path
    outcome: Any
    moments: int
    samples: int


def counted(directory: Path, what: str) -> int:
    return directory.with_suffix(".counts").read_text().count(what)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    write_suite(directory)
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in math_rows("train", 60)))
    for seed, name in enumerate(("one", "two")):
        tuned(directory / name, seed)
    return directory


@pytest.fixture(scope="module", params=VERBS)
def undisturbed(
    request: pytest.FixtureRequest, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Verb, Undisturbed]:
    verb, directory = VERBS[request.param], tmp_path_factory.mktemp(request.param) / "run"
    directory.mkdir()
    assert run(verb, directory, inputs) == 0, directory.with_suffix(".log").read_text()
    outcome = verb.outcome(directory)
    assert outcome is not None
    return verb, Undisturbed(inputs, outcome, counted(directory, "f"), counted(directory, "g"))


def statuses(directory: Path) -> list[str]:
    client = MlflowClient(f"sqlite:///{directory}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return sorted(run.info.status for run in client.search_runs(experiments))


@pytest.mark.parametrize(("share", "number"), MOMENTS)
def test_law_13_a_verb_that_is_ended_and_given_again_has_lost_nothing(
    share: float, number: signal.Signals, undisturbed: tuple[Verb, Undisturbed], tmp_path: Path
) -> None:
    verb, expected = undisturbed
    directory = tmp_path / "run"
    directory.mkdir()
    log = directory.with_suffix(".log")
    code = run(verb, directory, expected.inputs, round(share * (expected.moments - 1)), number)
    assert code == (KILLED if number == signal.SIGKILL else TERMINATED), log.read_text()
    assert verb.outcome(directory) in (None, expected.outcome), "what is half done looks whole"
    if verb.tracked and number == signal.SIGTERM and (directory / "mlflow.db").exists():
        assert "RUNNING" not in statuses(directory)
    assert run(verb, directory, expected.inputs) == 0, log.read_text()
    assert verb.outcome(directory) == expected.outcome
    assert counted(directory, "g") <= expected.samples + 2, "at most the batch in flight is sampled again"
    if verb.tracked:
        assert statuses(directory)[0] == "FINISHED"
        assert "RUNNING" not in statuses(directory)
    left = [path.name for path in directory.rglob("*") if path.name.endswith((".part", ".writing", ".unfinished"))]
    assert left == []
