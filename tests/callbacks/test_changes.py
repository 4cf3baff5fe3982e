"""What differs between a checkpoint's config and that of the resumed run is told, stored, applied or refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from mlflow.artifacts import load_text
from mlflow.tracking import MlflowClient

from callbacks.changes import compare, refused
from callbacks.progress import CurriculumProgress
from callbacks.resume import Resumed, ResumeError, check_changes
from main import main

BEFORE: dict[str, Any] = {
    "seed_everything": 0,
    "ckpt_path": None,
    "model": {
        "class_path": "omnithink_pl.modules.MultiTaskGRPO",
        "init_args": {
            "policy": "embedded",
            "sampling": {"temperature": 1.0},
            "kl": {"beta": {"code": 0.01, "math": 0.02}, "reference": "base", "targets": {"math": 0.1}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-4}},
        },
    },
    "data": {"tasks": {"writing": {"init_args": {"judge": {"init_args": {"model": "a", "endpoint": {"url": "x"}}}}}}},
    "curriculum": {"stages": [{"tasks": {"code": 1}, "steps": 3}], "steps": None},
    "trainer": {"devices": 1, "logger": {"init_args": {"tracking_uri": "sqlite:///a.db"}}},
}


def changed(**values: Any) -> dict[str, Any]:
    """A copy with some settings replaced, by key with ``__`` between its parts."""
    copy: dict[str, Any] = yaml.safe_load(yaml.safe_dump(BEFORE))
    for key, value in values.items():
        *parents, last = key.split("__")
        place: Any = copy
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        place[int(last) if isinstance(place, list) else last] = value
    return copy


KL = "model__init_args__kl__"


@pytest.mark.parametrize(
    "key",
    [
        "model__init_args__optimizer__init_args__lr",
        f"{KL}beta__code",
        "curriculum__stages__0__steps",
        "trainer__devices",
        "trainer__logger__init_args__tracking_uri",
        "data__tasks__writing__init_args__judge__init_args__endpoint__url",
    ],
)
def test_what_may_change_is_told_and_not_refused(key: str) -> None:
    (change,) = compare(BEFORE, changed(**{key: 7}))
    assert str(change) == f"{key.replace('__init_args', '').replace('__', '.')} {change.before}, now 7"
    assert refused([change], BEFORE) == []


@pytest.mark.parametrize(
    "key",
    [
        "seed_everything",
        "model__init_args__policy",
        "model__init_args__sampling__temperature",
        "model__init_args__optimizer__class_path",
        f"{KL}reference",
        f"{KL}beta__math",  # follows a target: what is configured is only where it began
        "data__tasks__writing__init_args__judge__init_args__model",
    ],
)
def test_what_cannot_change_is_refused(key: str) -> None:
    changes = compare(BEFORE, changed(**{key: "other"}))
    assert refused(changes, BEFORE) == changes != []


def test_the_same_config_differs_in_nothing_and_the_checkpoint_asked_for_is_no_setting() -> None:
    assert compare(BEFORE, changed(ckpt_path="last")) == []


def test_a_penalty_that_begins_inside_a_stage_needs_the_policy_of_its_start() -> None:
    without = changed(**{f"{KL}beta": 0.0, f"{KL}reference": "stage", f"{KL}targets": {}})
    after = changed(**{f"{KL}beta": 0.1, f"{KL}reference": "stage", f"{KL}targets": {}})
    assert [one.key for one in refused(compare(without, after), without)] == ["model.kl.beta"]


def test_a_refusal_names_every_setting_that_cannot_change_and_the_checkpoint() -> None:
    resumed = Resumed("", 3, yaml.safe_dump(BEFORE))
    after = changed(seed_everything=1, trainer__devices=2, model__init_args__sampling={"temperature": 0.5})
    wanted = (
        r"run/last\.ckpt .* cannot change midway: "
        r"model\.sampling\.temperature 1\.0, now 0\.5; seed_everything 0, now 1\. Give them as they were"
    )
    with pytest.raises(ResumeError, match=wanted):
        check_changes(Path("run/last.ckpt"), resumed, yaml.safe_dump(after))


SETTINGS = [
    "fit",
    "--name=short",
    "--curriculum.stages=[{tasks: {qa: 1}, steps: 3}]",
    "--data.batch_size=2",
    "--model.sampling.group_size=2",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=1",
    "--checkpoints.every_n_steps=1",
    "--checkpoints.save_policy=false",
]
LR = "--model.optimizer.init_args.lr"


def stop(self: CurriculumProgress, trainer: L.Trainer, *rest: Any) -> None:
    trainer.should_stop = True


@pytest.mark.slow
def test_a_resumed_run_uses_and_records_a_new_learning_rate_and_refuses_a_new_seed(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])
    settings = [*SETTINGS, f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger.tracking_uri={tracking_uri}"]
    with monkeypatch.context() as patch:
        patch.setattr(CurriculumProgress, "on_train_batch_end", stop)
        main([*settings, f"{LR}=1e-4"])
    with pytest.raises(ResumeError, match="seed_everything 0, now 1"):
        main([*settings, f"{LR}=1e-4", "--seed_everything=1", "--ckpt_path=last"])
    main([*settings, f"{LR}=2e-5", "--model.kl.beta.qa=0.5", "--ckpt_path=last"])
    (path,) = tmp_path.glob("short/*/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["steps_done"] == 3
    assert {group["lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]} == {2e-5}
    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert run.info.status == "FINISHED"
    assert "step 1: model.optimizer.lr 0.0001, now 2e-05" in run.data.tags["changes"]
    assert "step 1: model.kl.beta.qa 0.01, now 0.5" in run.data.tags["changes"]
    assert yaml.safe_load(load_text(f"{run.info.artifact_uri}/config_from_step_1.yaml"))["seed_everything"] == 0
    assert yaml.safe_load(load_text(f"{run.info.artifact_uri}/changes.json"))[0]["step"] == 1
