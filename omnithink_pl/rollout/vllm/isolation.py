"""What vLLM changes in the process that it lives in, and putting it back.

An engine reseeds or advances every global generator, replaces ``torch.set_num_threads``, edits the environment, and
makes a default process group where there is none. Training must not notice any of it.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist


@contextmanager
def random_state_preserved() -> Iterator[None]:
    """Torch's generators (CPU and every GPU), numpy's and Python's are afterwards as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  (vLLM seeds numpy's global state)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def threads_preserved() -> Iterator[None]:
    """The number of threads, the function that sets it, and the cores of this process are afterwards as they were."""
    set_threads, count, cores = torch.set_num_threads, torch.get_num_threads(), os.sched_getaffinity(0)
    try:
        yield
    finally:
        torch.set_num_threads = set_threads  # on a CPU vLLM replaces it by a function that does nothing
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
        if os.sched_getaffinity(0) != cores:
            os.sched_setaffinity(0, cores)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for the while; afterwards the whole environment is as it was."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


class EngineGroup:
    """The default process group that an engine makes where there is none, hidden from everyone else.

    Others take ``dist.is_initialized()`` as a sign of several processes. Where a group existed before the engine, the
    engine uses that one and nothing is hidden.
    """

    def __init__(self) -> None:
        self._own: dist.ProcessGroup | None = None

    @contextmanager
    def visible(self) -> Iterator[None]:
        """The group is the default one for the while, unless there is one already."""
        if dist.is_initialized():
            yield
            return
        dist.group.WORLD = self._own
        try:
            yield
        finally:
            self._own = dist.group.WORLD
            dist.group.WORLD = None


@contextmanager
def isolated(group: EngineGroup, variables: Mapping[str, str]) -> Iterator[None]:
    """All of it: generators, threads, environment, process group and warning filters."""
    with (
        warnings.catch_warnings(),
        environment(variables),
        threads_preserved(),
        random_state_preserved(),
        group.visible(),
    ):
        warnings.simplefilter("ignore")  # vLLM's own, about vLLM's own code
        yield
