"""The boxes of a sandbox end when they should, and only then."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omnithink_pl.sandbox import HardenedSandbox, RunOutcome
from omnithink_pl.types import UnitTests
from tests.sandbox.helpers import ADD, PRINT_SUM, SLEEP, SOLUTION, SUM, all_end, boxes, interrupted


def test_a_lost_box_is_replaced_and_costs_nothing(sandbox: HardenedSandbox) -> None:
    sandbox.run(SOLUTION, SUM)
    for box in (sandbox._pairs[0]._program, sandbox._pairs[0]._judge):
        assert box is not None
        box.disconnect()
    assert sandbox.run(SOLUTION, SUM).passed
    assert sandbox.run(PRINT_SUM, ADD).passed


def test_cancelling_ends_what_runs_and_leaves_it_usable() -> None:
    sandbox = HardenedSandbox(workers=2, timeout=100.0)
    jobs = [(SLEEP, ADD), (f"{SLEEP}\ndef f(): pass", UnitTests(functional="f()"))]
    with ThreadPoolExecutor(1) as thread:
        verdicts = thread.submit(sandbox.run_all, jobs)
        while len(before := boxes(sandbox)) < 3:
            pass
        sandbox.cancel()
    assert [verdict.outcome for verdict in verdicts.result()] == [RunOutcome.REFUSED] * 2
    assert all_end(before)
    assert sandbox.run(PRINT_SUM, ADD).passed
    sandbox.close()


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interruption_ends_what_runs(jobs: int) -> None:
    sandbox = HardenedSandbox(workers=1, timeout=100.0)
    assert sandbox.run(PRINT_SUM, ADD).passed  # so that a run is interrupted, not the start of its box
    with interrupted(0.3):
        _ = sandbox.run(SLEEP, ADD) if jobs == 1 else sandbox.run_all([(SLEEP, ADD)] * jobs)
    assert boxes(sandbox) == []
    assert sandbox.run(PRINT_SUM, ADD).passed
    sandbox.close()


PARENT = """
import os, signal, sys, threading
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import UnitTests
sandbox = HardenedSandbox(workers=1, tier={tier!r}, timeout=100.0)
sandbox.run("print(1)", UnitTests(inputs=("",), outputs=("1",)))
print(sandbox._pairs[0]._program._process.pid, flush=True)
if {busy}:
    threading.Thread(target=sandbox.run, args=({sleep!r}, {{"inputs": [""], "outputs": [""]}}), daemon=True).start()
{end}
"""


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError"])
@pytest.mark.parametrize("tier", ["bubblewrap", "landlock"])
def test_boxes_end_with_their_parent_however_it_ends(tier: str, end: str, busy: bool) -> None:
    program = PARENT.format(tier=tier, end=end, busy=busy, sleep=SLEEP)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert all_end([int(done.stdout)])


FORKED = """
import os
from omnithink_pl.sandbox import HardenedSandbox
sandbox = HardenedSandbox(workers=1)
tests = {"inputs": ["1"] * 20, "outputs": ["1"] * 20}
passed = [sandbox.run("print(input())", tests).passed]
child = os.fork()
passed += [sandbox.run("print(input())", tests).passed for _ in range(3)]
print(passed, flush=True)
if child:
    os.waitpid(child, 0)
    print(sandbox.run("print(input())", tests).passed, flush=True)
"""


def test_a_forked_copy_of_the_parent_has_boxes_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert done.stdout == "[True, True, True, True]\n" * 2 + "True\n"
    assert done.stderr == ""


def test_close_ends_all_boxes_and_leaves_no_open_files(sandbox: HardenedSandbox) -> None:
    open_files = []
    for _ in range(3):
        sandbox.run(SOLUTION, SUM)
        pids = boxes(sandbox)
        sandbox.close()
        sandbox.close()
        assert len(pids) == 2
        assert all_end(pids)
        open_files.append(len(list(Path("/proc/self/fd").iterdir())))
    assert len(set(open_files)) == 1
