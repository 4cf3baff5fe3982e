from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from mlflow.tracking import MlflowClient

from omnithink_pl.tracking.runs import Owner, mark_used


def test_tags_name_the_process() -> None:
    me = Owner.current()
    assert Owner.from_tags(me.tags()) == me
    assert Owner.from_tags({"kind": "curriculum"}) is None


def test_this_process_is_neither_gone_nor_elsewhere() -> None:
    assert not Owner.current().is_gone()
    assert not Owner.current().is_alive_elsewhere()


def test_a_process_that_ended_is_gone_though_its_parent_has_not_waited_for_it() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    ended = Owner.from_tags({**Owner.current().tags(), "owner.pid": str(child)})
    assert ended is not None
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # a zombie holds the number now
    assert ended.is_gone()
    os.waitpid(child, 0)
    assert ended.is_gone()


def test_a_reused_process_number_is_not_the_same_process() -> None:
    earlier = replace(Owner.current(), started="1")
    assert earlier.is_gone()


@pytest.mark.parametrize("change", [{"host": "another"}, {"boot": "another boot or container"}])
def test_a_process_that_cannot_be_seen_from_here_counts_as_alive(change: dict[str, str]) -> None:
    unseen = replace(Owner.current(), pid=2**22 + 1, **change)
    assert not unseen.is_gone()
    assert not unseen.is_alive_elsewhere()


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
