from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from omnithink_pl.tracking.runs import Owner, environment, git_commit, mark_used


def test_tags_name_the_process() -> None:
    me = Owner.current()
    assert Owner.from_tags(me.tags()) == me
    assert Owner.from_tags({"kind": "curriculum"}) is None
    assert me.is_running()


def test_a_process_that_ended_does_not_run_though_its_parent_has_not_waited_for_it() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    ended = Owner.from_tags({**Owner.current().tags(), "owner.pid": str(child)})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # a zombie holds the number now
    assert ended.is_running() is False
    os.waitpid(child, 0)
    assert ended.is_running() is False


@pytest.mark.parametrize(
    ("change", "running"),
    [
        ({"started": "1"}, False),  # the number was reused
        ({"pid": 2**22 + 1, "host": "another"}, None),
        ({"pid": 2**22 + 1, "boot": "another boot or container"}, None),
    ],
)
def test_a_process_is_told_from_another_of_its_number_and_may_be_out_of_sight(
    change: dict[str, str | int], running: bool | None
) -> None:
    assert replace(Owner.current(), **change).is_running() is running


def test_runs_that_start_at_once_with_a_new_experiment_all_start(tracking_uri: str) -> None:
    """Eight processes' worth of first tags on one experiment, released together."""
    client = MlflowClient(tracking_uri)
    experiment = client.create_experiment("new")
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        mark_used(client, experiment)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(start) for _ in range(8)]:
            done.result()
    assert "last_used" in client.get_experiment(experiment).tags


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_environment_names_versions_and_machine() -> None:
    found = environment()
    assert (found["packages"]["torch"], found["cpus"] >= 1) == (version("torch"), True)
    assert set(found["git"]) == {"commit", "uncommitted_changes"}


def test_the_commit_is_told_with_whether_the_code_was_changed_since(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1\n")
    for command in ("init -q", "add code.py", "commit -q -m first"):
        git(tmp_path, *command.split())
    assert git_commit(tmp_path) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "code.py").write_text("x = 2\n")
    assert git_commit(tmp_path) == (git(tmp_path, "rev-parse", "HEAD"), True)
    # A package installed below a checkout is not that checkout.
    installed = tmp_path / ".venv"
    installed.mkdir()
    (installed / "code.py").touch()
    assert git_commit(installed) == (None, False)
