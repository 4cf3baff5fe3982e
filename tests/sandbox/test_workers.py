"""Worker processes that die, hang, stop reading or outlast their parent cost one job at most."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.sandbox.workers import Lost, WorkerPool
from tests.sandbox.helpers import all_end, interrupted

WORKER = """
import json, os, pathlib, signal, sys
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job["do"] == "die" or job["do"] == "die once" and not pathlib.Path(job["mark"]).exists():
        pathlib.Path(job["mark"]).touch()
        os._exit(3)
    while job["do"] == "hang":
        signal.pause()
    print(json.dumps({"pid": os.getpid(), "got": job.get("load")}), flush=True)
    if job["do"] == "stop reading":
        signal.pause()
"""


def worker_pool(size: int = 1, code: str = WORKER) -> WorkerPool:
    return WorkerPool([sys.executable, "-I", "-c", code], size)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = worker_pool(2)
    yield pool
    pool.close()


def test_replies_keep_the_order_of_the_jobs(pool: WorkerPool) -> None:
    replies = pool.map([{"do": "echo", "load": i} for i in range(50)], limit=20)
    assert [reply["got"] for reply in replies] == list(range(50))
    assert len({reply["pid"] for reply in replies}) <= 2


def test_no_jobs_start_no_workers(pool: WorkerPool) -> None:
    assert pool.map([], limit=1) == []
    assert pool._workers == []


def test_a_job_larger_than_any_pipe_arrives_whole(pool: WorkerPool) -> None:
    load = "x" * 3_000_000
    assert pool.map([{"do": "echo", "load": load}], limit=20)[0]["got"] == load


def test_a_job_whose_worker_dies_is_tried_once_more_on_a_new_one(pool: WorkerPool, tmp_path: Path) -> None:
    before = {reply["pid"] for reply in pool.map([{"do": "echo"}] * 20, limit=20)}
    again = pool.map([{"do": "die once", "mark": str(tmp_path / "mark"), "load": 1}], limit=20)[0]
    assert again["got"] == 1
    assert again["pid"] not in before


def test_a_job_that_kills_two_workers_is_lost_and_only_that_one(pool: WorkerPool, tmp_path: Path) -> None:
    jobs = [{"do": "echo", "load": i} for i in range(6)]
    jobs[3] = {"do": "die", "mark": str(tmp_path / "mark")}
    replies = pool.map(jobs, limit=20)
    assert replies[3] is Lost.DIED
    assert [reply["got"] for i, reply in enumerate(replies) if i != 3] == [0, 1, 2, 4, 5]


def test_a_job_that_hangs_is_lost_and_its_workers_are_killed() -> None:
    pool = worker_pool()
    before = pool.map([{"do": "echo"}], limit=20)[0]["pid"]
    assert pool.map([{"do": "hang"}], limit=0.2) == [Lost.TIMEOUT]
    after = pool.map([{"do": "echo"}], limit=20)[0]["pid"]
    pool.close()
    assert all_end([before, after])
    assert before != after


def test_a_worker_that_stops_reading_cannot_block_us() -> None:
    pool = worker_pool()
    pool.map([{"do": "stop reading"}], limit=20)
    reply = pool.map([{"do": "echo", "load": "x" * 1_000_000}], limit=0.5)[0]
    pool.close()
    assert len(reply["got"]) == 1_000_000


def test_a_worker_that_does_not_start_says_why() -> None:
    pool = worker_pool(code="raise SystemExit('no such library')")
    with pytest.raises(RuntimeError, match="no such library"):
        pool.map([{"do": "echo"}], limit=20)
    assert pool._workers == []


def test_a_reply_that_comes_after_an_interruption_answers_no_other_job(pool: WorkerPool) -> None:
    pool.map([{"do": "echo"}], limit=20)
    with interrupted(0.1):
        pool.map([{"do": "hang"}, {"do": "hang"}], limit=20)
    assert pool.map([{"do": "echo", "load": 5}], limit=20)[0]["got"] == 5


def test_close_ends_every_worker_and_may_be_called_twice(pool: WorkerPool) -> None:
    pids = {reply["pid"] for reply in pool.map([{"do": "echo"}] * 20, limit=20)}
    pool.close()
    pool.close()
    assert all_end(pids)


PARENT = f"""
import os, signal, sys
from omnithink_pl.sandbox.workers import WorkerPool
pool = WorkerPool([sys.executable, "-I", "-c", {WORKER!r}], 1)
print(pool.map([{{"do": "echo"}}], 20)[0]["pid"], flush=True)
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError"])
def test_workers_end_with_their_parent_however_it_ends(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", PARENT + end], capture_output=True, text=True, check=False)
    assert all_end([int(done.stdout)])


def test_a_forked_copy_of_the_parent_that_exits_leaves_the_workers_alone() -> None:
    fork = "\nif (child := os.fork()) == 0:\n    sys.exit()\nos.waitpid(child, 0)\n"
    again = "print(pool.map([{'do': 'echo'}], 20)[0]['pid'])"
    done = subprocess.run([sys.executable, "-c", PARENT + fork + again], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first == second


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers"):
        worker_pool(0)
