"""All rewards of a batch at the same time: what may wait for what, and what is left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import pytest

from omnithink_pl.rewards import MathReward, Reward, Rubric
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.types import Group, Outcome, State
from tests.rewards.groups import answered, group


class Doing(Reward):
    """Does something, then finds everything right."""

    def __init__(self, name: str, do: Callable[[], object], undo: Callable[[], object] = lambda: None) -> None:
        self.name, self.do, self.undo = name, do, undo

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        self.do()
        return [[Outcome.of(1.0) for _ in group.completions] for group in groups]

    def close(self) -> None:
        self.undo()


def alive() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("reward")}


def mixed() -> list[tuple[str, Group]]:
    return [("b", group("5", "x")), ("a", group("5", "x", "y")), ("b", group("5", "z"))]


def test_rewards_of_a_task_and_of_several_tasks_run_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=60)  # nobody passes before all four are there
    rubrics = {n: Rubric(tuple((Doing(f"{n}{i}", together.wait), 1.0) for i in range(2))) for n in ("a", "b")}
    groups = [dataclasses.replace(g, example=dataclasses.replace(g.example, task=n)) for n, g in mixed()]
    scores = score_batch(groups, rubrics)
    assert [[score.total for score in row] for row in scores] == [[2.0], [2.0, 2.0], [2.0]]
    assert [score.components[0].name for row in scores for score in row] == ["b0", "a0", "a0", "b0"]
    for rubric in rubrics.values():
        rubric.close()


def test_scores_do_not_depend_on_which_reward_is_done_first() -> None:
    def scored(last: int) -> list[object]:
        others = threading.Event()
        first = Doing("first", others.wait if last == 0 else others.set)
        second = Doing("second", others.wait if last == 1 else others.set)
        rubric = Rubric(((first, 1.0), (second, 0.1), (MathReward(), 0.5)))
        scores = rubric.score([group("5", answered("5"), answered("6")), group("7", answered("7"))])
        rubric.close()
        return scores

    assert scored(0) == scored(1)


def test_a_reward_that_does_not_come_back_has_failed_and_the_others_have_not() -> None:
    hangs = threading.Event()
    rubric = Rubric(((Doing("slow", hangs.wait), 1.0), (Doing("quick", lambda: None), 0.1)))
    for _ in range(2):  # the second time it is still busy with the first
        (score,) = rubric.score([group("5", "x")], timeout=0.05)[0]
        assert score.state is State.FAILED
        assert [c.outcome.reason for c in score.components] == ["reward timed out", ""]
    hangs.set()
    assert rubric.score([group("5", "x")])[0][0].total == pytest.approx(1.1)
    rubric.close()


def test_an_error_that_nobody_foresaw_reaches_whoever_waits() -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    rubric = Rubric(((Doing("good", lambda: None), 1.0), (Doing("bad", fail), 1.0)))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        rubric.score([group("5", "x")])
    rubric.close()


def test_each_reward_keeps_one_thread_of_its_own() -> None:
    seen: list[threading.Thread] = []
    rubric = Rubric(((Doing("one", lambda: seen.append(threading.current_thread())), 1.0),))
    for _ in range(3):
        rubric.score([group("5", "x")])
    assert len(set(seen)) == 1
    assert seen[0] is not threading.current_thread()
    rubric.close()


def test_closing_ends_a_reward_that_hangs_and_it_can_be_used_again() -> None:
    hangs = threading.Event()
    rubric = Rubric(((Doing("stuck", hangs.wait, hangs.set), 1.0),))
    scoring = rubric.open()
    scoring.add({0: group("5", "x")})
    scoring.complete()
    rubric.close()
    rubric.close()
    assert scoring.running[0].done()
    assert "reward stuck" not in alive()
    assert rubric.score([group("5", "x")])[0][0].total == 1.0
    rubric.close()


def test_nothing_is_left_running_after_a_ctrl_c_in_the_midst_of_hanging_rewards() -> None:
    """A verifier at work in its process, and a reward that nothing can end: the interpreter leaves all the same."""
    program = (
        "import signal, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored below a shell's background job
        "from omnithink_pl.rewards import MathReward, Rubric\n"
        "from tests.rewards.groups import answered, group\n"
        "from tests.rewards.test_thread import Doing\n"
        "math = MathReward(timeout=600.0)\n"
        "math.score([group('x+1', answered('1+x'))])\n"
        "print(*[w._process.pid for w in math._pool._workers])\n"
        "begun = threading.Event()\n"
        "stuck = Doing('stuck', lambda: (begun.set(), threading.Event().wait()))\n"
        "rubric = Rubric(((math, 1.0), (stuck, 1.0)))\n"
        "scoring = rubric.open()\n"
        "scoring.add({0: group('x', answered('10^{10^{9}}'))})\n"
        "scoring.complete()\n"
        "begun.wait()\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    scoring.scores()\n"
        "finally:\n"
        "    rubric.close()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            worker = int(process.stdout.readline())
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
