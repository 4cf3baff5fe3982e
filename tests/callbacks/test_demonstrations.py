"""``main.py predict`` and the fine-tuning on what it made, both ended anywhere and continued."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import signal
from pathlib import Path

import pytest
from datasets import load_from_disk
from safetensors.torch import load_file, save_file

from main import CONFIGS, main
from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import policy_path
from tests.callbacks.test_resume import assert_same, histories, last_checkpoint

STAGES = "--curriculum.stages=[{tasks: {math: 1, qa: 1}, steps: 3}, {tasks: {qa: 1}, steps: 3}]"


def few(directory: Path) -> list[str]:
    """One completion for each prompt of two tasks, in five batches."""
    return [
        "predict",
        f"--config={CONFIGS / 'sft_data.yaml'}",
        STAGES,
        "--model.sampling.group_size=1",
        "--data.batch_size=256",
        f"--demonstrations.output={directory / 'data'}",
        "--trainer.logger=false",
    ]


def killed(arguments: list[str], call: int) -> None:
    """Run in a process of its own that is killed when completions are asked for the n-th time."""
    callback = f"[{{class_path: tests.callbacks.killer.EndAt, init_args: {{call: {call}, signal_name: SIGKILL}}}}]"
    arguments = [*arguments, f"--trainer.callbacks={callback}"]
    process = multiprocessing.get_context("fork").Process(target=main, args=(arguments,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted command makes."""
    directory = tmp_path_factory.mktemp("sampled")
    main(few(directory))
    return directory


def test_every_prompt_is_sampled_and_only_correct_completions_are_kept(sampled: Path) -> None:
    counts = json.loads((sampled / "data" / "counts.json").read_text())
    assert {task: count["completions"] for task, count in counts.items()} == {"math": 640, "qa": 640}
    rows = load_from_disk(sampled / "data" / "dataset")
    assert len(rows) == sum(count["kept"] for count in counts.values()) > 100
    assert set(rows["reward"]) == {1.0}
    assert all(text.startswith("<think>") and text.endswith("</answer>") for text in rows["completion"])


def test_a_killed_command_that_is_given_again_makes_the_same(
    sampled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(few(tmp_path), call=3)
    assert len(list((tmp_path / "data" / "parts").iterdir())) == 2
    monkeypatch.setattr("callbacks.demonstrations._SECONDS", 0.0)  # as if each batch took long
    main(few(tmp_path))
    said = re.findall(r"^\d\d:\d\d:\d\d  batch (\d)/5  kept .*  left [\d:-]+$", capsys.readouterr().out, re.MULTILINE)
    assert said == ["3", "4", "5"]
    for name in ("counts.json", "settings.json", "pass_rates.json"):
        assert (tmp_path / "data" / name).read_text() == (sampled / "data" / name).read_text()
    ours, theirs = (load_from_disk(path / "data" / "dataset").to_list() for path in (tmp_path, sampled))
    assert ours == theirs


def test_a_command_that_was_killed_before_the_data_set_was_written_writes_it_when_given_again(
    sampled: Path, tmp_path: Path
) -> None:
    shutil.copytree(sampled, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "data" / "dataset")
    main(few(tmp_path))
    ours, theirs = (load_from_disk(path / "data" / "dataset").to_list() for path in (tmp_path, sampled))
    assert ours == theirs


def test_a_folder_is_not_resumed_with_other_prompts_or_another_policy_behind_the_same_path(
    sampled: Path, tmp_path: Path
) -> None:
    shutil.copytree(sampled, tmp_path / "prompts")
    with pytest.raises(
        BadInput, match=r"begun with other settings \(texts of prompts and references\); .* remove this"
    ):
        main([*few(tmp_path / "prompts"), "--data.tasks.math.system_prompt=system_steps_v1"])
    policy = tmp_path / "policy"
    shutil.copytree(policy_path("embedded"), policy)
    arguments = [*few(tmp_path), f"--model.policy={policy}"]
    killed(arguments, call=1)
    weights = load_file(policy / "model.safetensors")
    trained = {name: weight + 1e-3 for name, weight in weights.items()}
    save_file(trained, policy / "model.safetensors", {"format": "pt"})  # of the same size
    with pytest.raises(BadInput, match=r"begun with other settings \(policy files\); .* remove this one"):
        main(arguments)


def fine_tuning(sampled: Path, directory: Path) -> list[str]:
    return [
        "fit",
        f"--config={CONFIGS / 'sft.yaml'}",
        "--name=short",
        STAGES,
        "--data.batch_size=4",
        f"--data.demonstrations={sampled / 'data'}",
        "--evaluation.evaluator.prompts=2",
        "--evaluation.evaluator.samples=2",
        "--checkpoints.every_n_steps=2",
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
    ]


def test_fine_tuning_that_was_killed_and_resumed_equals_one_that_was_not(
    sampled: Path, tmp_path: Path, empty_store: Path
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        shutil.copy(empty_store, tmp_path / name / "mlflow.db")
    main(fine_tuning(sampled, tmp_path / "whole"))
    killed(fine_tuning(sampled, tmp_path / "parts"), call=2 + 1)  # in the evaluation between the stages
    main([*fine_tuning(sampled, tmp_path / "parts"), "--ckpt_path=last"])
    expected, got = (last_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    for part in ("state_dict", "optimizer_states", "steps_done"):
        assert_same(expected[part], got[part], part)
    assert_same(expected["callbacks"]["StageEvaluation"], got["callbacks"]["StageEvaluation"], "score matrix")
    assert len(got["callbacks"]["StageEvaluation"]["matrix"]["rows"]) == 3
    assert_same(histories(tmp_path / "whole"), histories(tmp_path / "parts"), "metrics")


def test_a_module_that_cannot_sample_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model\.class_path: predict samples with .*RejectionSampling, not with Multi"):
        main(["predict", f"--demonstrations.output={tmp_path}", "--trainer.logger=false"])
