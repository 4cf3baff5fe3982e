"""``main.py validate``: a policy on benchmarks, killed, resumed, and scored again."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from main import main
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completions import PolicyCompleter
from omnithink_pl.evaluation.suites.base import Suite, choose_suites
from omnithink_pl.evaluation.validate import load_weights
from tests.suite import write_suite

pytestmark = pytest.mark.slow

NAMES = ["aime24", "mmlu_pro", "mmlu_pro_letter", "mt_bench"]
CALLS = 3 + 3 + 3 + 2  # chunks of four prompts: three calls each, and two for the two turns of MT-Bench


def arguments(suite: Path, output: Path, *more: str) -> list[str]:
    return ["validate", f"--config={suite}", f"--output={output}", "--chunk=4", "--trainer.logger=false", *more]


def killed(arguments: list[str], call: int) -> int | None:
    """Run in a process of its own that is killed when completions are asked for the n-th time; its exit code."""

    def run() -> None:
        complete, calls = PolicyCompleter.complete, iter(range(1, 10**9))

        def counted(*given: Any) -> Any:
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return complete(*given)

        PolicyCompleter.complete = counted  # type: ignore[method-assign]
        main(arguments)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    return process.exitcode


def results(output: Path) -> dict[str, Any]:
    found = json.loads((output / "results.json").read_text())
    for score in found["benchmarks"].values():
        del score["seconds"]
    return found


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def finished(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nobody disturbed."""
    output = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["main.py"])
        main(arguments(suite, output))
    return output


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_completion_is_stored_with_its_verdict_and_every_score_has_its_interval(finished: Path) -> None:
    found = results(finished)
    assert list(found["benchmarks"]) == NAMES
    assert list(found["domains"]) == ["math", "qa", "qa_letter", "writing"]
    for name, count in zip(NAMES, [24, 12, 12, 4], strict=True):
        stored = rows(finished / f"{name}.jsonl")
        assert len(stored) == count
        assert {row["uid"] for row in stored if not row["completion"]} <= {"11"}
        score = found["benchmarks"][name]["score"]
        assert score["low"] <= score["mean"] <= score["high"] > score["low"]
    assert found["benchmarks"]["mmlu_pro"]["score"]["mean"] > 0.3
    assert set(found["benchmarks"]["mt_bench"]["categories"]) == {"writing", "roleplay"}
    # The prompt that is longer than the policy's context is not answered and counts 0.
    too_long = [(row["state"], row["reason"]) for row in rows(finished / "aime24.jsonl") if row["uid"] == "11"]
    assert too_long == [("undefined", "prompt leaves no room in the context")] * 2
    assert found["benchmarks"]["aime24"]["prompts"] == 12


def test_a_run_that_was_killed_and_continued_equals_one_that_was_not(
    suite: Path, finished: Path, tmp_path: Path
) -> None:
    assert killed(arguments(suite, tmp_path), CALLS) == -signal.SIGKILL
    assert not (tmp_path / "mt_bench.jsonl").exists()
    torn = tmp_path / "mmlu_pro_letter.jsonl"
    torn.write_bytes(torn.read_bytes()[:-7])  # as a power cut would leave it
    main(arguments(suite, tmp_path))
    for name in NAMES:
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        assert sorted(lines) == sorted((finished / f"{name}.jsonl").read_text().splitlines())
    assert results(tmp_path) == results(finished)


def test_saved_completions_are_scored_again_without_a_policy(
    suite: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(finished, changed)
    for path in changed.glob("*.jsonl"):  # verdicts are not believed
        wrong = [row | {"state": "value", "value": 1.0, "reason": ""} for row in rows(path)]
        path.write_text("".join(json.dumps(row) + "\n" for row in wrong))
    monkeypatch.setattr("omnithink_pl.modules.PolicyModule.load", None)
    main(arguments(suite, tmp_path / "again", f"--completions={changed}"))
    assert results(tmp_path / "again") == results(finished)


def test_what_cannot_be_had_has_no_score_and_what_is_there_is_not_sampled_again(
    suite: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(PolicyCompleter, "complete", None)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    missing = "--data.benchmarks.aime24.task.init_args.source.init_args.path=/nowhere/aime"
    other = "--data.benchmarks.mmlu_pro.max_tokens=40"
    with pytest.raises(BadInput, match="no score for aime24, mmlu_pro; see above"):
        main(arguments(suite, tmp_path, missing, other, "--benchmarks=aime24,mmlu_pro,mt_bench"))
    found, before = results(tmp_path), results(finished)
    assert found["domains"]["math"]["score"] is None
    assert found["domains"]["writing"] == before["domains"]["writing"]
    absent, changed, stored = (found["benchmarks"][name]["problem"] for name in ("aime24", "mmlu_pro", "mt_bench"))
    assert absent.startswith("AIME24(/nowhere/aime): path '/nowhere/aime' does not exist")
    assert "made otherwise (sampling: '1 at 0, 1, 56 tokens', now '1 at 0, 1, 40 tokens'); name another" in changed
    assert stored == ""
    shown = capsys.readouterr().out
    assert "aime24 has no score: AIME24(/nowhere/aime)" in shown
    assert "math has no domain score: aime24:" in shown


def test_arguments_that_make_no_sense_are_named() -> None:
    task: Any = SimpleNamespace(name="qa")
    with pytest.raises(BadInput, match=r"'math501' is unknown; choose from qa, mmlu_pro"):
        choose_suites({"qa": task}, {"mmlu_pro": Suite(task)}, "qa,math501")
    with pytest.raises(BadInput, match="3 greedy samples are all the same; set a temperature"):
        Suite(task, samples=3)


def test_by_default_the_held_out_tasks_are_measured_and_tracked(tracking_uri: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"--trainer.logger.init_args.tracking_uri={tracking_uri}"
    cli = main(["validate", "--benchmarks=qa", uri, f"--trainer.default_root_dir={tmp_path}", "--chunk=256"])
    assert not hasattr(cli.model, "reference")  # it has no use here, and takes as much memory as the policy
    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert (run.info.status, run.data.tags["kind"]) == ("FINISHED", "validate")
    assert 0.3 < run.data.metrics["eval/qa"] == run.data.metrics["eval/qa/qa"] < 1.0
    assert {"uncertainty/qa/qa/low", "uncertainty/qa/qa/high", "uncertainty/qa/qa/undefined"} <= set(run.data.metrics)
    config = yaml.safe_load(Path(client.download_artifacts(run.info.run_id, "config.yaml", tmp_path)).read_text())
    assert (config["benchmarks"], config["chunk"]) == ("qa", 256)
    again = tmp_path / "again"
    main(["validate", f"--config={tmp_path / 'config.yaml'}", f"--output={again}", "--trainer.logger=false"])
    (before,) = tmp_path.glob("validate/*")
    assert results(again) == results(before)
    stored = {item.path for item in client.list_artifacts(run.info.run_id, "benchmarks")}
    assert stored == {"benchmarks/qa.jsonl", "benchmarks/results.json"}


class Weighing(torch.nn.Linear):
    """As much of a module as a checkpoint needs."""

    policy_name, adapter, strict_loading = "embedded", None, True


def test_a_checkpoints_weights_are_taken_and_a_foreign_one_is_named(tmp_path: Path) -> None:
    trained, fresh = Weighing(2, 2), Weighing(2, 2)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "last.ckpt")
    load_weights(fresh, tmp_path / "last.ckpt")  # type: ignore[arg-type]
    assert torch.equal(fresh.weight, trained.weight)
    with pytest.raises(BadInput, match=r"last\.ckpt is damaged, or a checkpoint of another policy than model\.policy="):
        load_weights(Weighing(3, 3), tmp_path / "last.ckpt")  # type: ignore[arg-type]
