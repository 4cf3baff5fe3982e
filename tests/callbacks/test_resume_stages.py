"""A run whose stages end early, are chosen late and replay others, killed and continued, equals one that was not."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from callbacks.resume import ResumeError, read_checkpoint
from main import main
from omnithink_pl.curriculum.stages import Stage
from tests.callbacks.test_resume import assert_same, histories, last_checkpoint

pytestmark = pytest.mark.slow

SETTINGS = [
    "fit",
    "--name=short",
    "--curriculum.stages=[{tasks: {qa: 1}, steps: 4}, {tasks: {math: 1}, steps: 4}, {tasks: {writing: 1}, steps: 2}]",
    "--curriculum.replay=0.5",
    "--curriculum.scheduler=omnithink_pl.curriculum.schedulers.LeastForgettable",
    "--validation.every_n_steps=1",
    "--validation.patience=1",
    "--validation.min_delta=1",  # nothing is ever better: a stage ends at its second step
    "--validation.continue_from=best",  # the weights of its first step, then
    "--validation.evaluator.prompts=2",
    "--validation.evaluator.samples=1",
    "--learning_rate.warmup_steps=1",
    "--learning_rate.decay=cosine",
    "--data.batch_size=2",
    "--model.sampling.group_size=2",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=1",
    "--checkpoints.every_n_steps=3",
]


def settings(directory: Path) -> list[str]:
    return [
        *SETTINGS,
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(empty_store, directory / "mlflow.db")
    main(settings(directory))
    return directory


def test_the_realised_stages_are_what_a_run_ends_with(uninterrupted: Path) -> None:
    checkpoint = last_checkpoint(uninterrupted)
    plan = checkpoint["callbacks"]["Curriculum"]["plan"]
    assert [stage["steps"] for stage in plan] == [2, 2, 2]
    assert checkpoint["steps_done"] == 6
    labels = checkpoint["callbacks"]["StageEvaluation"]["matrix"]["labels"]
    assert labels == ["base", *(f"{i} {next(iter(stage['tasks']))}" for i, stage in enumerate(plan, 1))]
    (best,) = uninterrupted.glob("short/*/best/1_qa")
    assert load_file(best / "model.safetensors"), "the best policy of each stage is kept"
    (path,) = uninterrupted.glob("short/*/last.ckpt")
    stages = [Stage({"qa": 1.0}, 4), Stage({"math": 1.0}, 4), Stage({"writing": 1.0}, 2)]
    assert read_checkpoint(path, stages).steps_done == 6
    with pytest.raises(ResumeError, match="is finished"):
        read_checkpoint(path, [*stages, Stage({"code": 1.0}, 2)])
    with pytest.raises(ResumeError, match="use the same config"):
        read_checkpoint(path, [Stage({"qa": 1.0}, 5), *stages[1:]])


# Row 0 asks twice; then come 2 steps, each with 2 calls of a validation, and the row that the choice is made from.
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(2 + 5, id="in the validation that ends a stage"),
        pytest.param(2 + 6 + 1, id="in the evaluation that the next stage is chosen from"),
        pytest.param(2 + 6 + 2 + 2, id="in the first validation of a stage that was chosen"),
        pytest.param(2 + 6 + 2 + 6 + 2 + 1, id="in the last stage"),
    ],
)
def test_a_killed_run_goes_on_the_same(call: int, uninterrupted: Path, tmp_path: Path, tracking_uri: str) -> None:
    killer = f"[{{class_path: tests.callbacks.killer.EndAt, init_args: {{call: {call}, signal_name: SIGKILL}}}}]"
    arguments = [*settings(tmp_path), f"--trainer.callbacks={killer}"]
    process = multiprocessing.get_context("fork").Process(target=main, args=(arguments,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    main([*settings(tmp_path), "--ckpt_path=last"])
    expected, got = last_checkpoint(uninterrupted), last_checkpoint(tmp_path)
    for part in ("state_dict", "optimizer_states", "steps_done"):
        assert_same(expected[part], got[part], part)
    for part in ("Curriculum", "ModelSelection", "StageEvaluation"):
        assert_same(expected["callbacks"][part], got["callbacks"][part], part)
    assert_same(histories(uninterrupted), histories(tmp_path), "metrics")
