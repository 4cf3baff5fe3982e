"""How benchmarks run: quiet libraries, programs that take turns, ranks that train together, tables."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch

Lap = Callable[[], None]
Program = Callable[[Lap], Any]


def quiet(threads: int = 1) -> None:
    """Silence progress bars and advice of the libraries, but not errors, and set torch's CPU threads."""
    torch.set_num_threads(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "accelerate", "trl"):
        logging.getLogger(name).setLevel(logging.ERROR)


def print_table(header: str, rows: Iterable[str]) -> None:
    """Print a Markdown table; cells are separated by `` | ``."""
    print(f"| {header} |")
    print("|" + " --- |" * (header.count(" | ") + 1))
    for row in rows:
        print(f"| {row} |")


def print_json(figures: Mapping[str, float]) -> None:
    """Print rounded figures as one line of JSON."""
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


class Cost(NamedTuple):
    """Cost of a lap."""

    seconds: float  # wall-clock time
    cpu: float  # processor seconds of the process, all threads; other load on the machine changes them less


class Run(NamedTuple):
    """Costs and result of a program."""

    costs: list[Cost]  # of each lap, without waiting; the first includes the start
    result: Any


def take_turns(sides: Mapping[str, Program], begin: Callable[[], None]) -> dict[str, Run]:
    """Run programs in turns, each in a process of its own, so that a busy machine slows all of them alike.

    Each program calls the function that it is given after each of its laps. Every round has one lap of each, in random
    order. Programs in one process would share an allocator, a garbage collector and the libraries' global settings.
    ``begin`` is called in each process before its program. Programs and results must be picklable.

    Raises:
        RuntimeError: If a program fails, with its traceback; the others are terminated.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.ours"])
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    results: dict[str, Any] = {}
    pipes: dict[str, Connection] = {}
    processes: dict[str, BaseProcess] = {}
    order = random.Random(0)
    try:
        for name, program in sides.items():
            pipes[name], theirs = context.Pipe()
            processes[name] = context.Process(target=_run, args=(theirs, begin, program))
            processes[name].start()
            theirs.close()
        while pipes:
            for name in order.sample(list(pipes), len(pipes)):
                try:
                    pipes[name].send("continue")
                    kind, value = _answer(pipes[name], processes[name].pid)
                except (EOFError, OSError) as error:
                    raise RuntimeError(f"{name}: its process is gone; was there enough memory?") from error
                if kind == "failure":
                    raise RuntimeError(f"{name} failed\n{value}")
                if kind == "lap":
                    costs[name].append(value)
                else:
                    results[name] = value
                    del pipes[name]
    finally:
        for process in processes.values():
            assert process.pid is not None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own children too: they hold what join waits for
            process.join()
    return {name: Run(costs[name], results[name]) for name in sides}


def _answer(pipe: Connection, process: int | None) -> tuple[str, Any]:
    """Return what a process sends.

    Raises:
        OSError: If it is gone. If it was killed, its own children may hold the pipe open, so that no end is read.
    """
    assert process is not None
    while not pipe.poll(1.0):
        os.kill(process, 0)
    answer: tuple[str, Any] = pipe.recv()
    return answer


def _run(pipe: Connection, begin: Callable[[], None], program: Program) -> None:
    """Run a program, and answer every call with the cost of a lap, the last with the result."""
    os.setsid()
    began = Cost(0.0, 0.0)

    def wait() -> None:
        nonlocal began
        pipe.recv()
        began = _now()

    def lap() -> None:
        pipe.send(("lap", Cost(*(now - then for now, then in zip(_now(), began, strict=True)))))
        wait()

    wait()
    try:
        begin()
        pipe.send(("end", program(lap)))
    except BaseException:  # noqa: BLE001  (sent to the parent)
        pipe.send(("failure", traceback.format_exc()))


def _now() -> Cost:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return Cost(time.perf_counter(), time.process_time())


def free_port() -> int:
    """Return a TCP port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def run_ranks(program: Callable[[int, Lap], Any], ranks: int, begin: Callable[[], None]) -> list[float]:
    """Run a program in several processes that train together, as torchrun would start them.

    The program gets its rank, and what to call after each lap. Return the seconds of each lap but the first, in the
    first process.
    """
    run = partial(_rank, program, ranks, free_port(), begin)
    with multiprocessing.get_context("spawn").Pool(ranks) as pool:
        # Unordered, so that the failure of any rank ends all of them.
        return dict(pool.imap_unordered(run, range(ranks)))[0]


def _rank(
    program: Callable[[int, Lap], Any], ranks: int, port: int, begin: Callable[[], None], rank: int
) -> tuple[int, list[float]]:
    if ranks > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": str(ranks)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ["TORCHELASTIC_RUN_ID"] = "benchmark"
    begin()
    ends: list[float] = []
    program(rank, lambda: ends.append(time.perf_counter()))
    return rank, [after - before for before, after in pairwise(ends)]
