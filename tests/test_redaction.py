"""No secret is in anything that a run prints or stores, however it fails."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lightning as L
import pytest

from main import CONFIGS
from omnithink_pl.judge.client import Endpoint
from omnithink_pl.redaction import redact
from tests.judge.scripted import ScriptedServer, scripted_server

KEY = 'Zq7!w"Ke4y' + "/made+for=this\\test"  # no shape that any service's keys have; differs in URLs and JSON
TOKEN, PASSWORD = "tok-9f8e7d6c5b4a", "hunter2hunter2"
SECRETS = (KEY, TOKEN, PASSWORD, quote(KEY, safe=""), json.dumps(KEY)[1:-1], repr(KEY)[1:-1])
JUDGE = "--data.tasks.writing.init_args.judge.init_args"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY + "\r\n")
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def test_secrets_are_found_by_the_names_of_the_environment_in_every_form() -> None:
    for form in (KEY, quote(KEY, safe=""), json.dumps({"key": KEY}), f"Bearer {KEY}, {TOKEN}", repr([KEY])):
        assert not any(secret in redact(form) for secret in SECRETS)
        assert "***" in redact(form)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://me:pass/word@host:5432/db", "postgresql://me:pass/word@host:5432/db"),  # no URL: a / ends it
        ("postgresql://me:p%2Fw@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("see https://host:8000/v1, mail a@b.c", "see https://host:8000/v1, mail a@b.c"),
        ("key sk-proj-abcdefghijklmnop1234 refused", "key *** refused"),
        ("a task-specific-regularisation-term", "a task-specific-regularisation-term"),
        ("hf_abcdefghijklmnopqrst", "***"),
    ],
)
def test_well_known_keys_and_passwords_of_addresses_are_hidden_and_words_are_not(text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_what_is_no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {
        "TOKENIZERS_PARALLELISM": "parallelism",
        "MONKEY": "chimpanzees",
        "API_KEY": "short",
        "KEY": "/etc/keys/one",
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
        assert redact(f"it is {value}.") == f"it is {value}."


class Bug(L.Callback):
    """An error, a warning, a log message and a print of somebody who did not think of keys."""

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        key = Endpoint(api_key_env="TEST_JUDGE_KEY").key()
        logging.getLogger("lightning.pytorch").error("asked with %s", key)
        logging.getLogger("somebody").warning("asked with %s", key, exc_info=ValueError(TOKEN))
        warnings.warn(f"do not use {key}", stacklevel=1)
        print("using", key, "and", TOKEN)
        for logger in trainer.loggers:
            logger.set_tags({"asked": f"with {key}"})
            logger.log_hyperparams({"headers": {"Authorization": f"Bearer {key}"}})
            logger.artifacts.json({"key": key}, "request.json")
        raise LookupError(f"no answer to a request with {key}") from KeyError(key)


def child(arguments: list[str], output: Path) -> None:
    """The command line, as ``python main.py`` runs it."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
    warnings.resetwarnings()
    logging.getLogger().handlers.clear()  # pytest's
    for name in ("lightning.pytorch", "lightning.fabric"):  # had the standard error when they were imported
        for handler in logging.getLogger(name).handlers:
            handler.setStream(sys.stderr)  # type: ignore[attr-defined]
    sys.argv = ["main.py", *arguments]
    runpy.run_path("main.py", run_name="__main__")


def fit(directory: Path, server: ScriptedServer, *more: str) -> int | None:
    arguments = [
        "fit",
        f"--config={CONFIGS / 'judge' / 'openai.yaml'}",
        "--name=short",
        "--curriculum.stages=[{tasks: {writing: 1}, steps: 1}]",
        "--data.batch_size=1",
        "--model.sampling.group_size=2",
        "--evaluation.evaluator.prompts=1",
        "--evaluation.evaluator.samples=1",
        f"{JUDGE}.endpoint.base_url={server.url}",
        f"{JUDGE}.endpoint.api_key_env=TEST_JUDGE_KEY",
        f"{JUDGE}.endpoint.attempts=1",
        f"{JUDGE}.cache={directory}/judge.sqlite",
        f"{JUDGE}.parameters={{user: {TOKEN}}}",
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
        *more,
    ]
    process = multiprocessing.get_context("fork").Process(target=child, args=(arguments, directory / "console"))
    process.start()
    process.join()
    return process.exitcode


WAYS: dict[str, Callable[[ScriptedServer], list[str]]] = {
    **{f"HTTP {status}": lambda server: [] for status in (400, 401, 404, 500)},
    "HTTP 307": lambda server: [],
    "html": lambda server: [],
    "reset": lambda server: [],
    "a server that is not there": lambda server: [f"{JUDGE}.endpoint.base_url=http://127.0.0.1:9/v1"],
    "the key as a variable's name": lambda server: [f"{JUDGE}.endpoint.api_key_env={KEY}"],
    "the key in the address": lambda server: [f"{JUDGE}.endpoint.base_url=http://host/v1?key={quote(KEY)}"],
    "a password in the address": lambda server: [f"{JUDGE}.endpoint.base_url=http://me:{PASSWORD}@host/v1"],
    "a store with a password": lambda server: [
        f"--trainer.logger.init_args.tracking_uri=postgresql://me:{PASSWORD}@127.0.0.1:9/db"
    ],
    "an option that is not there": lambda server: [f"{JUDGE}.endpoint.key={KEY}"],
    "a bug": lambda server: ["--trainer.callbacks=[{class_path: tests.test_redaction.Bug}]"],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_nothing_that_a_failed_run_prints_or_stores_holds_a_secret(
    way: str, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    with scripted_server() as server:
        fault = way.removeprefix("HTTP ")
        server.script(always=fault if fault.isdigit() or fault in {"html", "reset"} else None, elsewhere=server.url)
        code = fit(tmp_path, server, *WAYS[way](server))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert code, "the run was to fail"
    assert len(files[tmp_path / "console"]) > 50
    leaks = {(str(path), secret) for path, content in files.items() for secret in SECRETS if secret.encode() in content}
    assert leaks == set()
    if way == "a bug":
        assert files[tmp_path / "console"].count(b"***") >= 6, "all of it was there, but for the secrets"
        assert any(path.name == "request.json" for path in files), "artifacts lie there, too"
