"""Several programs, each in a process of its own, in turns: a busy machine then slows all of them alike."""

from __future__ import annotations

import multiprocessing
import random
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Lap = Callable[[], None]
Program = Callable[[Lap], Any]


class Cost(NamedTuple):
    """What a lap took.

    Args:
        seconds: By the clock.
        cpu: Processor seconds of the program's process, all threads: what a busy machine changes less.
    """

    seconds: float
    cpu: float


class Run(NamedTuple):
    """What became of a program.

    Args:
        costs: Of each lap, without the time in which it waited; the first has its start in it.
        result: What the program returned.
    """

    costs: list[Cost]
    result: Any


class _Failure(NamedTuple):
    traceback: str


class _End(NamedTuple):
    result: Any


def take_turns(sides: Mapping[str, Program], begin: Callable[[], None]) -> dict[str, Run]:
    """Run all programs to their end, each of which calls what it is given after each of its laps.

    Every round has one lap of each, in an order drawn anew, so that none always follows the same other one. Programs in
    one process would share an allocator, a garbage collector and whatever a library sets for its process; so they do
    not. What they are made of, and what they return, must be picklable.

    Args:
        sides: The programs by name.
        begin: Called in each process before its program.

    Returns:
        One run a side.

    Raises:
        RuntimeError: If a program fails, with its traceback; the others are ended.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.ours"])
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    results: dict[str, Any] = {}
    pipes: dict[str, Connection] = {}
    processes = []
    draw = random.Random(0)
    try:
        for name, program in sides.items():
            pipes[name], theirs = context.Pipe()
            processes.append(context.Process(target=_run, args=(theirs, begin, program)))
            processes[-1].start()
            theirs.close()
        while pipes:
            for name in draw.sample(list(pipes), len(pipes)):
                answer = _lap(name, pipes[name])
                if isinstance(answer, _End):
                    results[name] = answer.result
                    del pipes[name]
                else:
                    costs[name].append(answer)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return {name: Run(costs[name], results[name]) for name in sides}


def _lap(name: str, pipe: Connection) -> Cost | _End:
    """Let a side go on until its lap, or all of it, has ended."""
    try:
        pipe.send("go on")
        answer: Cost | _End | _Failure = pipe.recv()
    except (EOFError, OSError) as error:
        raise RuntimeError(f"{name}: its process is gone") from error
    if isinstance(answer, _Failure):
        raise RuntimeError(f"{name} failed\n{answer.traceback}")
    return answer


def _run(pipe: Connection, begin: Callable[[], None], program: Program) -> None:
    """A side's process: it answers every call with the cost of a lap, and the last with its result."""
    began = Cost(0.0, 0.0)

    def wait() -> None:
        nonlocal began
        pipe.recv()
        began = _now()

    def lap() -> None:
        pipe.send(Cost(*(now - then for now, then in zip(_now(), began, strict=True))))
        wait()

    wait()
    try:
        begin()
        pipe.send(_End(program(lap)))
    except BaseException:  # noqa: BLE001  (handed over)
        pipe.send(_Failure(traceback.format_exc()))


def _now() -> Cost:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return Cost(time.perf_counter(), time.process_time())
