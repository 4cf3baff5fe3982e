"""The three states of a reward up to the total, and all rewards of a batch at the same time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import pytest

from omnithink_pl.errors import RewardFailure
from omnithink_pl.rewards import CodeReward, FormatReward, MathReward, Reward, Rubric, TagsReward
from omnithink_pl.rewards.scoring import score_batch, seconds_covered
from omnithink_pl.types import Group, Outcome, State, UnitTests
from tests.rewards.groups import SayingSandbox, answered, group


class Doing(Reward):
    """Does something, then scores 1 throughout."""

    def __init__(self, name: str, do: Callable[[], object], undo: Callable[[], object] = lambda: None) -> None:
        self.name, self.do, self.undo = name, do, undo

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        self.do()
        return [[Outcome.of(1.0) for _ in group.completions] for group in groups]

    def close(self) -> None:
        self.undo()


def test_a_total_is_the_weighted_sum_of_what_is_defined() -> None:
    texts = [answered("5"), answered("6"), "so " + answered("5"), answered("five"), "<think>5", "5"]
    rubric = Rubric(((MathReward(), 1.0), (FormatReward(), 0.1), (TagsReward(), 0.1)))
    scores = rubric.score([group("5", *texts)])[0]
    assert [score.total for score in scores] == pytest.approx([1.2, 0.2, 1.1, 0.2, 0.025, 0.0])
    assert [score.primary.state for score in scores] == [State.VALUE] * 3 + [State.UNDEFINED] * 3
    assert {score.state for score in scores} == {State.VALUE}
    undefined = [(c.name, c.weight, c.outcome.value) for c in scores[3].components]
    assert undefined == [("math", 1.0, None), ("format", 0.1, 1.0), ("tags", 0.1, 1.0)]
    alone = Rubric(((MathReward(), 1.0),)).score([group("5", "5")])[0][0]
    assert (alone.state, alone.total) == (State.UNDEFINED, None)


def test_our_failure_leaves_the_completion_without_a_total_and_its_siblings_with_theirs() -> None:
    tests = UnitTests(inputs=("",), outputs=("",))
    rubric = Rubric(((CodeReward(SayingSandbox()), 1.0), (FormatReward(), 0.1)))
    scores = rubric.score([group(tests, answered("refused"), answered("passed"))])[0]
    assert [score.state for score in scores] == [State.FAILED, State.VALUE]
    assert [score.total for score in scores] == [None, pytest.approx(1.1)]


def test_rewards_of_a_task_and_of_several_tasks_run_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=60)  # nobody passes before all four are there
    rubrics = {n: Rubric(tuple((Doing(f"{n}{i}", together.wait), 1.0) for i in range(2))) for n in ("a", "b")}
    groups = [group("5", "x", task="b"), group("5", "x", "y", task="a"), group("5", "z", task="b")]
    scores = score_batch(groups, rubrics)
    assert [[score.total for score in row] for row in scores] == [[2.0], [2.0, 2.0], [2.0]]
    assert [score.components[0].name for row in scores for score in row] == ["b0", "a0", "a0", "b0"]
    for one in rubrics.values():
        one.close()


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


def test_a_reward_that_does_not_return_has_failed_and_the_others_have_not() -> None:
    hangs = threading.Event()
    rubric = Rubric(((Doing("slow", hangs.wait), 1.0), (Doing("quick", lambda: None), 0.1)))
    for _ in range(2):  # the second time it is still busy with the first
        (score,) = rubric.score([group("5", "x")], timeout=0.05)[0]
        assert score.state is State.FAILED
        assert [c.outcome.reason for c in score.components] == ["reward timed out", ""]
    hangs.set()
    assert rubric.score([group("5", "x")])[0][0].total == pytest.approx(1.1)
    rubric.close()


def test_an_unforeseen_error_of_a_reward_is_raised_and_never_a_score() -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    rubric = Rubric(((Doing("good", lambda: None), 1.0), (Doing("bad", fail), 1.0)))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        rubric.score([group("5", "x")])
    rubric.close()


@pytest.mark.parametrize("end", [StopIteration("over"), SystemExit(0), KeyboardInterrupt(), StopAsyncIteration()])
def test_what_would_end_the_run_as_if_finished_is_a_failure_with_its_cause(end: BaseException) -> None:
    def fail() -> None:
        raise end

    rubric = Rubric(((Doing("bad", fail), 1.0),))
    with pytest.raises(RewardFailure, match=rf"the reward 'bad' raised {re.escape(repr(end))}; mend it") as raised:
        rubric.score([group("5", "x")])
    assert raised.value.__cause__ is end
    rubric.close()


def test_a_reward_keeps_one_thread_closing_ends_one_that_hangs_and_it_can_be_used_again() -> None:
    hangs, seen = threading.Event(), []

    def wait() -> None:
        seen.append(threading.current_thread())
        hangs.wait()

    rubric = Rubric(((Doing("stuck", wait, hangs.set), 1.0),))
    pending = rubric.threads[0].submit([group("5", "x")])
    rubric.close()
    rubric.close()
    assert pending.done()
    assert "reward stuck" not in {thread.name for thread in threading.enumerate()}
    for _ in range(2):
        assert rubric.score([group("5", "x")])[0][0].total == 1.0
    assert seen[1] is seen[2] is not threading.current_thread()
    rubric.close()


def test_nothing_keeps_running_after_a_ctrl_c_in_the_midst_of_hanging_rewards() -> None:
    """A verifier at work in its process, and a reward that nothing can end: the interpreter exits all the same."""
    program = (
        "import signal, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored below a shell's background job
        "from omnithink_pl.rewards import MathReward, Rubric\n"
        "from omnithink_pl.rewards.scoring import BatchScoring\n"
        "from tests.rewards.groups import answered, group\n"
        "from tests.rewards.test_scoring import Doing\n"
        "math = MathReward(timeout=600.0)\n"
        "math.score([group('x+1', answered('1+x'))])\n"
        "print(*[w._process.pid for w in math._pool._workers])\n"
        "begun = threading.Event()\n"
        "stuck = Doing('stuck', lambda: (begun.set(), threading.Event().wait()))\n"
        "rubric = Rubric(((math, 1.0), (stuck, 1.0)))\n"
        "scoring = BatchScoring({'task': rubric})\n"
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


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(1.0, 2.0)], 1.0),
        ([(1.0, 3.0), (2.0, 4.0)], 3.0),
        ([(5.0, 6.0), (1.0, 2.0)], 2.0),
        ([(1.0, 5.0), (2.0, 3.0), (4.0, 6.0)], 5.0),
        ([(9.0, 12.0), (11.0, 20.0)], 1.0),
    ],
)
def test_time_that_several_rewards_share_counts_once_and_none_after_the_end(
    spans: list[tuple[float, float]], seconds: float
) -> None:
    assert seconds_covered(spans, until=10.0) == pytest.approx(seconds)
