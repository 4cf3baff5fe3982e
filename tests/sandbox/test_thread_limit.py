"""Programs that start threads without end are ended, whoever runs them, and end nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnithink_pl.sandbox.inside.confine import THREADS
from tests.sandbox.users import TIERS, run_as

# At most 200, whatever the limit does: with small stacks, or the memory that they address would be the limit.
BOMB = """
import threading, time
threading.stack_size(1 << 16)
started = 0
try:
    while started < 200:
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        started += 1
    time.sleep(100)
except RuntimeError:
    os.write(1, b"refused")
    os._exit(0)
"""
FORKS = """
import os
for _ in range(200):
    try:
        if os.fork() == 0: time.sleep(100)
    except OSError:
        print("refused")
        break
"""
HONEST = f"""
import threading
done = []
threads = [threading.Thread(target=done.append, args=(i,)) for i in range({THREADS - 8})]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(done))
"""
RUN = """
import json, sys, threading
from pathlib import Path
from omnithink_pl.sandbox import HardenedSandbox
tier, bomb, forks, honest, number = json.loads(sys.argv[1])
def tasks():
    return sum(len(list(one.glob("task/*"))) for one in Path("/proc").glob("[0-9]*"))
mine = threading.Barrier(101)
for _ in range(100):  # as many threads as a trainer has
    threading.Thread(target=mine.wait, daemon=True).start()
sandbox = HardenedSandbox(1, tier=tier, timeout=1.0)
jobs = [(bomb, "refused"), (forks, "refused"), (honest, number)]
jobs = [(program, {"inputs": [""], "outputs": [wanted]}) for program, wanted in jobs]
jobs += [(f"def f():\\n" + "".join("    " + line + "\\n" for line in bomb.splitlines()), {"functional": "f()"})]
jobs += [(honest, {"inputs": [""], "outputs": [number]})]
verdicts = [sandbox.run(*job) for job in jobs]
print(json.dumps([verdict.outcome.value for verdict in verdicts]))
mine.wait()
"""


@pytest.mark.parametrize(("user", "tier"), TIERS)
def test_law_10_a_bomb_of_threads_or_processes_ends_and_an_honest_program_does_not(
    user: str, tier: str, copy: Path
) -> None:
    given = json.dumps([tier, BOMB, FORKS, HONEST, str(THREADS - 8)])
    done = run_as(user, "-c", RUN, given, cwd=copy)
    assert done.returncode == 0, done.stderr
    threads, forks, honest, called, after = json.loads(done.stdout)
    # The kernel refuses another thread; or we kill the program, as the kernel does where memory is short. With Landlock
    # as an ordinary user, whose other threads count too, the limit is looser, and it may be the time that ends it.
    expected = {"root without rights": {"memory"}, "ordinary": {"passed", "timeout"}}.get(user, {"passed"})
    assert threads in expected
    assert called in {"exception", "timeout", "memory"}
    assert (forks, honest, after) == ("passed", "passed", "passed")
