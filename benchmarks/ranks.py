"""The steps of one process beside those of several that divide each batch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.connection import Connection

from benchmarks import ours
from benchmarks.lengths import PlannedLengths
from benchmarks.ours import Shape
from benchmarks.quiet import quiet


def seconds(shape: Shape, lengths: list[list[int]], ranks: int, threads: int) -> list[float]:
    """Run the steps in processes of their own.

    Args:
        shape: Of each step, over all processes.
        lengths: Of all completions of each step, prompt by prompt.
        ranks: Processes; they divide ``shape.prompts``.
        threads: CPU threads of each.

    Returns:
        Seconds of each step but the first, by the clock of the first process.

    Raises:
        RuntimeError: If a process fails; its own message is on the screen.
    """
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    everyone = [
        context.Process(target=_rank, args=(shape, lengths, rank, ranks, port, threads, writing))
        for rank in range(ranks)
    ]
    for process in everyone:
        process.start()
    writing.close()  # else nobody would notice that all processes are gone
    try:
        moments: list[float] = reading.recv()
    except EOFError:
        moments = []
    for process in everyone:
        process.join()
    if not moments or any(process.exitcode for process in everyone):
        raise RuntimeError(f"{ranks} processes ended with {[process.exitcode for process in everyone]}")
    return [after - before for before, after in pairwise(moments)]


def _rank(
    shape: Shape, lengths: list[list[int]], rank: int, ranks: int, port: int, threads: int, result: Connection
) -> None:
    quiet(threads)
    if ranks > 1:  # as torchrun would say it
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": str(ranks)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ["TORCHELASTIC_RUN_ID"] = "benchmark"

    def plans() -> Iterator[list[int]]:
        for batch in lengths:
            groups = [batch[at : at + shape.group] for at in range(0, len(batch), shape.group)]
            yield [length for group in groups[rank::ranks] for length in group]

    moments: list[float] = []
    ours.train(
        shape,
        lambda policy: PlannedLengths(policy.model, policy.eos_id, plans()),
        lambda: moments.append(time.perf_counter()),
        ranks=ranks,
    )
    if rank == 0:
        result.send(moments)
