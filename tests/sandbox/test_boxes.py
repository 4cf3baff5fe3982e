"""The boxes of a sandbox end when they should, and only then."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from omnithink_pl.sandbox import HardenedSandbox, RunOutcome
from omnithink_pl.types import UnitTests
from tests.sandbox.ends import all_end
from tests.sandbox.jobs import ADD, PRINT_SUM, SLEEP, SOLUTION, SUM, boxes


def test_a_lost_box_is_replaced_and_costs_nothing(sandbox: HardenedSandbox) -> None:
    sandbox.run(SOLUTION, SUM)
    for box in (sandbox._pairs[0]._program, sandbox._pairs[0]._judge):
        assert box is not None
        box.hang_up()
    assert sandbox.run(SOLUTION, SUM).passed
    assert sandbox.run(PRINT_SUM, ADD).passed


def test_cancelling_ends_what_runs_and_leaves_it_usable() -> None:
    sandbox = HardenedSandbox(workers=2, timeout=100.0)
    verdicts: list[RunOutcome] = []
    jobs = [(SLEEP, ADD), (f"{SLEEP}\ndef f(): pass", UnitTests(functional="f()"))]
    thread = threading.Thread(target=lambda: verdicts.extend(v.outcome for v in sandbox.run_all(jobs)))
    thread.start()
    while len(boxes(sandbox)) < 3:
        pass
    before = boxes(sandbox)
    sandbox.cancel()
    thread.join(30)
    assert verdicts == [RunOutcome.REFUSED] * 2
    assert all_end(before)
    assert sandbox.run(PRINT_SUM, ADD).passed
    sandbox.close()


def test_an_interruption_ends_what_runs() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    sandbox = HardenedSandbox(workers=1, timeout=100.0)
    assert sandbox.tier
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(KeyboardInterrupt):
        sandbox.run_all([(SLEEP, ADD)] * 3)
    signal.signal(signal.SIGALRM, previous)
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
@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError"])
@pytest.mark.parametrize("tier", ["bubblewrap", "landlock"])
def test_boxes_end_with_their_parent_however_it_ends(tier: str, end: str, busy: bool) -> None:
    program = PARENT.format(tier=tier, end=end, busy=busy, sleep=SLEEP)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
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


def test_close_ends_all_boxes_and_may_be_called_twice(sandbox: HardenedSandbox) -> None:
    sandbox.run(SOLUTION, SUM)
    pids = boxes(sandbox)
    sandbox.close()
    sandbox.close()
    assert len(pids) == 2
    assert all_end(pids)


def test_boxes_leave_no_open_files() -> None:
    sandbox = HardenedSandbox(workers=1)
    sandbox.run(SOLUTION, SUM)
    sandbox.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        sandbox.run(SOLUTION, SUM)
        sandbox.run("print(1)", ADD)
        sandbox.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
