"""Worker processes that die, hang, stop reading or outlast their parent cost one job at most."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.errors import RewardFailure
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


def worker_pool(size: int = 2, code: str = WORKER) -> WorkerPool:
    return WorkerPool([sys.executable, "-I", "-c", code], size)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = worker_pool()
    yield pool
    pool.close()


def test_replies_keep_the_order_of_the_jobs_and_arrive_whole(pool: WorkerPool) -> None:
    assert pool.map([], limit=1) == pool._workers == []
    loads = [*range(50), "x" * 3_000_000]  # the last is larger than any pipe
    replies = pool.map([{"do": "echo", "load": load} for load in loads], limit=20)
    assert [reply["got"] for reply in replies] == loads
    assert len({reply["pid"] for reply in replies}) <= 2


def test_a_job_whose_worker_dies_is_tried_once_more_on_a_new_one(pool: WorkerPool, tmp_path: Path) -> None:
    before = {reply["pid"] for reply in pool.map([{"do": "echo"}] * 20, limit=20)}
    again = pool.map([{"do": "die once", "mark": str(tmp_path / "mark"), "load": 1}], limit=20)[0]
    assert again["got"] == 1
    assert again["pid"] not in before


def test_a_job_that_kills_two_workers_is_lost_and_only_that_one(pool: WorkerPool, tmp_path: Path) -> None:
    die = {"do": "die", "mark": str(tmp_path / "mark")}
    first, lost, last = pool.map([{"do": "echo", "load": 1}, die, {"do": "echo", "load": 2}], limit=20)
    assert (first["got"], lost, last["got"]) == (1, Lost.DIED, 2)


def test_a_job_that_hangs_is_lost_and_its_workers_are_killed(pool: WorkerPool) -> None:
    before = pool.map([{"do": "echo"}], limit=20)[0]["pid"]
    assert pool.map([{"do": "hang"}], limit=0.2) == [Lost.TIMEOUT]
    assert all_end([before])
    assert pool.map([{"do": "echo", "load": 1}], limit=20)[0]["got"] == 1


def test_a_worker_that_stops_reading_cannot_block_us(pool: WorkerPool) -> None:
    pool.map([{"do": "stop reading"}], limit=20)
    reply = pool.map([{"do": "echo", "load": "x" * 1_000_000}], limit=0.5)[0]
    assert len(reply["got"]) == 1_000_000


def test_a_worker_that_does_not_start_says_why_and_none_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="workers"):
        worker_pool(size=0)
    pool = worker_pool(code="raise SystemExit('no such library')")
    with pytest.raises(RewardFailure, match="no such library"):
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
FORK = """
if (child := os.fork()) == 0:
    sys.exit()
os.waitpid(child, 0)
print(pool.map([{"do": "echo"}], 20)[0]["pid"])
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError", FORK])
def test_workers_end_with_their_parent_however_it_ends_but_not_with_a_fork_of_it(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", PARENT + end], capture_output=True, text=True, check=False)
    first, *others = map(int, done.stdout.split())
    assert others == ([first] if end == FORK else [])
    assert all_end([first])
