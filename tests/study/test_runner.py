"""Order, failure, interruption and locks, with small programs for runs and a dictionary for the store."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.study.definition import Job
from omnithink_pl.study.display import Result, Status
from omnithink_pl.study.runner import Runner, lock_folder, make_slots

# A run that writes when it began and ended, and ends as its verb says.
PROGRAM = """
import os, signal, sys, time
verb, out, *rest = sys.argv[1:]
with open(out, "a") as log:
    log.write(f"begin {os.environ['JOB']} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\\n")
print("working", flush=True)
if verb == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()
if verb == "fail":
    print("error: it broke", flush=True)
    sys.exit(3)
with open(out, "a") as log:
    log.write(f"end {os.environ['JOB']}\\n")
"""


class Memory:
    """A tracker that remembers."""

    def __init__(self, *done: str) -> None:
        self.done = set(done)
        self.uri, self.experiment = "sqlite:///x.db", "e"

    def finished(self, job: Job) -> bool:
        return job.key in self.done

    def started(self, job: Job) -> bool:
        return False

    def record(self, job: Job) -> None:
        self.done.add(job.key)

    def environment(self, job: Job) -> dict[str, str]:
        return {"JOB": job.key}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def job(folder: Path, run: str, verb: str = "work", needs: tuple[str, ...] = ()) -> Job:
    return Job(run, 0, verb, (str(folder / "log"),), folder / run, "f", needs)


def run(
    folder: Path, jobs: list[Job], memory: Memory | None = None, slots: list[dict[str, str]] | None = None, **told: Mock
) -> dict[str, Result]:
    program = [sys.executable, "-I", "-S", str(folder / "program.py")]
    runner = Runner(program, memory or Memory(), slots or [{}], Mock(**told))
    return {result.job.run: result for result in runner.run(jobs, {job.key: job for job in jobs})}


def log(folder: Path) -> list[str]:
    return [line.strip() for line in (folder / "log").read_text().splitlines()]


def test_what_is_needed_comes_first_however_many_slots_there_are(folder: Path) -> None:
    jobs = [job(folder, "late", needs=("early/0",)), job(folder, "early")]
    found = run(folder, jobs, slots=[{}, {}])
    assert {result.status for result in found.values()} == {Status.DONE}
    assert log(folder) == ["begin early/0", "end early/0", "begin late/0", "end late/0"]


def test_what_is_done_is_not_done_again(folder: Path) -> None:
    assert run(folder, [job(folder, "a"), job(folder, "b")], Memory("a/0"))["a"].status is Status.SKIPPED
    assert log(folder) == ["begin b/0", "end b/0"]


def test_a_failure_is_told_with_its_last_line_and_holds_up_only_what_needs_it(folder: Path) -> None:
    jobs = [job(folder, "bad", "fail"), job(folder, "after", needs=("bad/0",)), job(folder, "other")]
    found = run(folder, jobs)
    assert (found["bad"].status, found["bad"].reason) == (Status.FAILED, "exit code 3: error: it broke")
    assert (found["after"].status, found["after"].reason) == (Status.BLOCKED, "needs bad/0")
    assert found["other"].status is Status.DONE


def test_a_fit_that_exits_well_without_a_finished_run_is_not_done(folder: Path) -> None:
    """As it does when it is told to end."""
    assert run(folder, [job(folder, "a", "fit")])["a"].status is Status.FAILED


def test_slots_share_devices_evenly(folder: Path) -> None:
    run(folder, [job(folder, name) for name in "abc"], slots=make_slots(None, ["4", "5"]))
    used = sorted(line.split()[2] for line in log(folder) if line.startswith("begin"))
    assert used in (["4", "4", "5"], ["4", "5", "5"])
    assert make_slots(4, ["0", "1"]) == [{"CUDA_VISIBLE_DEVICES": name} for name in "0101"]
    assert make_slots(None, []) == make_slots(None, ["0"]) == [{}]
    assert make_slots(2, []) == [{}, {}]
    assert make_slots(1, ["0", "1"]) == [{}], "all of them"
    assert make_slots(2, list("01234")) == [{"CUDA_VISIBLE_DEVICES": name} for name in ("0,2,4", "1,3")]
    with pytest.raises(BadInput, match="jobs is 0"):
        make_slots(0, [])


def test_a_signal_ends_the_running_and_keeps_the_rest_from_starting(folder: Path) -> None:
    (folder / "slow").mkdir()
    output = folder / "slow" / "log.txt"
    output.touch()

    def interrupt_when_it_works() -> None:
        while "working" not in output.read_text():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    started = Mock(side_effect=lambda job: threading.Thread(target=interrupt_when_it_works).start())
    found = run(folder, [job(folder, "slow", "wait"), job(folder, "next")], started=started)
    assert {result.status for result in found.values()} == {Status.STOPPED}
    assert log(folder) == ["begin slow/0"]


def test_a_job_that_another_process_is_at_is_waited_for_and_then_not_repeated(folder: Path) -> None:
    memory = Memory()
    with lock_folder(folder / "a") as lock:
        assert lock is not None
        inherited = os.dup(lock)  # as a child has it that outlives its study

    def release(running: Job) -> None:
        memory.done.add(running.key)
        os.close(inherited)

    found = run(folder, [job(folder, "a")], memory, busy=Mock(side_effect=release))
    assert found["a"].status is Status.SKIPPED
    assert not (folder / "log").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"output: cannot write to .*file/a"), lock_folder(tmp_path / "file" / "a"):
        pass
