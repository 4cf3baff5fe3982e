"""Two processes tell each other how they fare: no one waits for one that is gone, all know what can be saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.barrier_process import Model, ending, fine, opened

ROOT = Path(__file__).resolve().parents[2]
Seen = dict[str, Any]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Seen]:
    """What each process saw; they wait for nothing but each other, so a hang would be the test's."""
    store = str(tmp_path_factory.mktemp("barrier") / "store")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.barrier_process", str(rank), store],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    first, second = (json.loads(process.communicate()[0]) for process in processes)
    assert [process.returncode for process in processes] == [0, 7]
    return first, second


@pytest.mark.parametrize(
    ("scenario", "first", "second"),
    [
        ("all is well", ["went on", None], ["went on", None]),
        ("a wish", [True, False], [True, False]),
        ("one fails", ["RankFailure", True], ["ZeroDivisionError", True]),
        ("both fail", ["ZeroDivisionError", True], ["ZeroDivisionError", True]),
        ("one fails in an update", ["RankFailure", False], ["ZeroDivisionError", False]),
        ("one is a step ahead", ["RankFailure", False], ["ZeroDivisionError", False]),
        ("one fails outside", ["RankFailure", True], ["failed by itself", True]),
        ("one does not come", ["RankFailure", False], ["ZeroDivisionError", False]),
    ],
)
def test_both_know_who_failed_and_what_can_be_saved(
    scenario: str, first: list[object], second: list[object], seen: tuple[Seen, Seen]
) -> None:
    assert (seen[0][scenario], seen[1][scenario]) == (first, second)


def test_a_process_that_was_killed_is_not_waited_for(seen: tuple[Seen, Seen]) -> None:
    assert seen[0]["one is killed"] == ["RankFailure", False]


def test_one_process_alone_answers_for_itself() -> None:
    model = Model(5)
    barrier = opened(model)
    assert ending(barrier, fine) == ["went on", None]
    assert (barrier.any_rank(flag=True), barrier.any_rank()) == (True, False)
    assert barrier.all_at_same_step()
    model.updating = True
    assert not barrier.all_at_same_step()
