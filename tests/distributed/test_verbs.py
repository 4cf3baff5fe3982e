"""Processes that divide the prompts of ``validate`` and ``predict`` make what one process makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from main import CONFIGS
from tests.distributed.ranks import DDP, QA, SHARDED, run
from tests.suite import write_suite

pytestmark = pytest.mark.slow
ALONE, CPU = "--trainer.logger=false", "--trainer.accelerator=cpu"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"))


def validate(suite: Path, output: Path, *more: str, ranks: int) -> list[int | None]:
    # Chunks of 12 and 11 prompts, so that two processes have different shares; and two of MT-Bench.
    settings = ["validate", f"--config={suite}", f"--output={output}", "--chunk=11", ALONE, CPU]
    return run(output.parent, *more, ranks=ranks, settings=settings)


def results(output: Path) -> dict[str, Any]:
    found = json.loads((output / "results.json").read_text())
    for score in found["benchmarks"].values():
        del score["seconds"]
    return found


def test_two_processes_validate_as_one(suite: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert validate(suite, one, ranks=1) == [0]
    assert validate(suite, two, *DDP, ranks=2) == [0, 0]
    names = sorted(path.name for path in one.glob("*.jsonl"))
    assert len(names) == 4
    for name in names:
        assert (two / name).read_text() == (one / name).read_text()
    assert results(two) == results(one)


def test_what_one_benchmark_lacks_keeps_no_process_from_the_next(suite: Path, tmp_path: Path) -> None:
    missing = "--data.benchmarks.aime24.task.init_args.source.init_args.path=/nowhere/aime"
    codes = validate(suite, tmp_path, *DDP, missing, "--benchmarks=aime24,mmlu_pro", ranks=2)
    assert 0 not in codes
    found = results(tmp_path)["benchmarks"]
    assert found["aime24"]["problem"].startswith("AIME24(/nowhere/aime): path '/nowhere/aime' does not exist")
    assert found["mmlu_pro"]["prompts"] == 12


@pytest.mark.parametrize("verb", ["validate", "predict"])
def test_a_strategy_that_divides_the_model_is_refused(
    verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = [f"--config={CONFIGS / 'sft_data.yaml'}", f"--demonstrations.output={tmp_path}"] if verb == "predict" else []
    sharded = [argument.replace("size=2", "size=1") for argument in SHARDED]
    assert run(tmp_path, *sharded, settings=[verb, *own, f"--data.tasks!={QA}", STAGES, ALONE, CPU]) != [0]
    shown = " ".join(capfd.readouterr().err.split())
    assert re.search(rf"trainer\.strategy: {verb} shards prompts .* use --trainer\.strategy=ddp", shown)


STAGES = "--curriculum.stages=[{tasks: {qa: 1}, steps: 1}]"


def predict(output: Path, *more: str, ranks: int) -> list[int | None]:
    # 640 prompts in four batches, the last of which has a single one.
    small = [STAGES, "--data.batch_size=213", "--model.sampling.group_size=1", f"--data.tasks!={QA}"]
    settings = ["predict", f"--config={CONFIGS / 'sft_data.yaml'}", *small, f"--demonstrations.output={output}"]
    return run(output.parent, *more, ranks=ranks, settings=[*settings, ALONE, CPU])


def test_two_processes_predict_as_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert predict(one, ranks=1) == [0]
    assert predict(two, *DDP, ranks=2) == [0, 0]
    assert (two / "counts.json").read_text() == (one / "counts.json").read_text()
    rows = load_from_disk(two / "dataset").to_list()
    assert rows == load_from_disk(one / "dataset").to_list()
    assert len(rows) > 50
