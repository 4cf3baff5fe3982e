"""Bad input ends a run before its first step, with one error that names the key, file or row, and the cure."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from callbacks.checkpoints import CheckpointError
from main import main
from omnithink_pl.errors import BadInput, OmniThinkError
from omnithink_pl.model.policy import load_tokenizer
from tests.model.architectures import tiny

KINDS = {"question_type": "math-word-problem", "problem_type": "Algebra"}


def fit(directory: Path, *arguments: str) -> None:
    main(
        [
            "fit",
            "--name=bad",
            "--evaluation.evaluator.prompts=2",
            "--curriculum.stages=[{tasks: {qa: 1}, steps: 2}]",
            f"--trainer.default_root_dir={directory}",
            f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
            *arguments,
        ]
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--curriculum.stages=[{tasks: {poetry: 1}, steps: 2}]",
            r"curriculum\.stages: unknown task 'poetry'; choose from \['code', 'math', 'qa', 'writing'\]",
        ),
        ("--model.sampling.group_size=1", r"model\.sampling\.group_size is 1; .*use 2 or more"),
        (
            "--model.kl.beta!={code: 0.1, math: 0.1, qa: 0.1}",
            r"model\.kl\.beta has no entry for the task 'writing'",
        ),
        ("--model.sampling.temperature=0", r"model\.sampling\.temperature is 0.*use a positive temperature"),
        ("--model.policy=./no/such/policy", r"model\.policy: no directory './no/such/policy'; give a directory"),
        (
            "--model.sampling.max_tokens=180",
            r"data\.tasks\.qa, row \S+: its prompt of \d+ tokens \(and \d+ more of \d+ prompts\) and "
            r"model\.sampling\.max_tokens=180 .* context of 192",
        ),
        ("--data.batch_size=0", r"data\.batch_size is 0; a step needs at least one prompt"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_the_cure(argument: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        fit(tmp_path, argument)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_policy_that_is_neither_here_nor_on_the_hub_is_named() -> None:
    with pytest.raises(
        BadInput, match=r"model\.policy: 'nobody/nothing' is no directory .* cannot be had from the hub"
    ):
        load_tokenizer("nobody/nothing")


def math_source(path: Path) -> str:
    return (
        "--data.tasks.math={class_path: omnithink_pl.tasks.Math, init_args: {source: "
        f"{{class_path: omnithink_pl.sources.OpenR1Math, init_args: {{path: {path}}}}}}}}}"
    )


ROW = {"problem": "What is 1 + 1?", "answer": "2", "uuid": "first"} | KINDS


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"rows.jsonl": []}, r"rows\.jsonl' is empty; write rows to it, or name another file"),
        ({"rows.jsonl": [ROW]}, r"data\.tasks\.math\.source: the (train|test) split is empty; check its path"),
        (
            {"train.jsonl": [ROW], "test.jsonl": [ROW, ROW | {"uuid": "2nd", "answer": ""}]},
            r"row 1 \(uid 2nd\) in test\.jsonl, line 2: column 'answer' cannot be used: it is empty; ",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named_with_the_cure(
    files: dict[str, list[dict[str, str]]], message: str, tmp_path: Path
) -> None:
    for name, rows in files.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BadInput, match=message):
        fit(tmp_path, math_source(tmp_path / "rows.jsonl" if "rows.jsonl" in files else tmp_path))


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # A directory stands where the database should be: unwritable for an ordinary user and for root alike.
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(
        OmniThinkError, match=r"trainer\.logger\.init_args\.tracking_uri: cannot open .*choose another store"
    ):
        fit(tmp_path)


class FullDiskAt(L.Callback):
    """From a step on, a file that grows beyond a limit fails as on a full disk: an OSError half-way through it."""

    def __init__(self, step: int, limit: int) -> None:
        self.step = step
        self.limit = limit

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: object, batch_idx: int) -> None:
        if pl_module.steps_done == self.step:
            (checkpoint,) = Path(trainer.default_root_dir).rglob("last.ckpt")
            checkpoint.with_name("before").write_bytes(checkpoint.read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, resource.RLIM_INFINITY))


@pytest.fixture
def unlimited_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("unlimited_files")
def test_a_full_disk_names_the_file_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*last\.ckpt: .* Free space .*--ckpt_path last"):
        fit(
            tmp_path,
            "--trainer.logger=false",
            "--checkpoints.every_n_steps=1",
            "--trainer.callbacks=[{class_path: tests.test_bad_input.FullDiskAt, init_args: {step: 1, limit: 100000}}]",
        )
    (path,) = tmp_path.rglob("last.ckpt")
    assert path.read_bytes() == path.with_name("before").read_bytes()
    assert [file.name for file in sorted(path.parent.iterdir())] == ["before", "last.ckpt"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bert", r"BertLMHeadModel looks ahead.*use a decoder"),
        ("bloom", r"BloomForCausalLM cannot share prompts.*set model\.memory\.share_prompt to false"),
    ],
)
def test_a_policy_that_would_be_trained_wrongly(kind: str, message: str, tmp_path: Path, tracking_uri: str) -> None:
    tokenizer = load_tokenizer("embedded")
    tokenizer.save_pretrained(tmp_path / "policy")
    tiny(kind, vocab_size=len(tokenizer), max_position_embeddings=256).save_pretrained(tmp_path / "policy")
    with pytest.raises(BadInput, match=message):
        fit(tmp_path, f"--model.policy={tmp_path / 'policy'}")
