"""A suite: a task's prompt and reward on the rows of a public benchmark."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.cells import text_defect
from omnithink_pl.sources.files import find_files
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example, Group

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suite:
    """How a policy is asked and scored on a benchmark.

    Prompt and reward are those of training; each source says where the benchmark's own harness differs.

    Args:
        task: Asks and scores; its source has the benchmark's rows.
        samples: Completions per prompt; the score is their mean (avg@k).
        temperature: Sampling temperature; 0 is greedy.
        top_p: Smallest set of tokens with at least this probability is sampled from.
        max_tokens: Longest completion; that of the policy's training if not given.
        domain: Domain whose score it is part of; the task's name if not given.
    """

    task: Task
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int | None = None
    domain: str | None = None

    def __post_init__(self) -> None:
        n, temperature = self.samples, self.temperature
        if n < 1 or temperature < 0:
            raise BadInput(f"data.benchmarks: samples is {n} and temperature {temperature}; use at least 1 and 0")
        if n > 1 and temperature == 0:
            raise BadInput(f"data.benchmarks: {n} greedy samples are all the same; set a temperature")

    @property
    def score_domain(self) -> str:
        """Name of the domain."""
        return self.domain or self.task.name

    @property
    def version(self) -> str:
        """Version of rows and scoring, and the data's commit or hash once it is loaded."""
        source: Any = self.task.source
        return f"{source.version}@{source.data_version}" if hasattr(source, "data_version") else "held-out"


def choose_suites(tasks: Mapping[str, Task], suites: Mapping[str, Suite], wanted: str | None) -> dict[str, Suite]:
    """Return the suites to run, by name; a task's held-out examples, answered greedily, are a suite too.

    ``wanted`` has names separated by commas; without it, all ``suites`` run, or all tasks where there are none.
    """
    known = {name: Suite(task) for name, task in tasks.items()} | dict(suites)
    if wanted is None:
        return dict(suites) or known
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise BadInput(
                f"--benchmarks: {name!r} is unknown; choose from {', '.join(known)}, or give a config that has it, "
                f"such as configs/benchmarks/paper.yaml"
            )
    return {name: known[name] for name in names}


def domain_members(
    tasks: Mapping[str, Task], suites: Mapping[str, Suite], chosen: Mapping[str, Suite]
) -> dict[str, list[str]]:
    """Return the suites of each domain that ``chosen`` touches: all in the config, else the held-out task."""
    members: dict[str, list[str]] = {}
    for name, suite in choose_suites(tasks, suites, None).items():
        members.setdefault(suite.score_domain, []).append(name)
    touched = {suite.score_domain for suite in chosen.values()}
    return {domain: names for domain, names in members.items() if domain in touched}


class SuiteSource(Source):
    """The rows of a benchmark, all of them for testing.

    A subclass states the data set in class variables and turns a row into an example.
    """

    version: ClassVar[str] = "1"  # raised when our prompts or scores change so that earlier ones no longer compare
    hub: ClassVar[str]  # id of the data set
    config: ClassVar[str | None] = None
    hub_split: ClassVar[str] = "test"
    columns: ClassVar[tuple[str, ...]]  # to read; the last has the gold answer, where that is text
    size: ClassVar[int]  # rows of the benchmark
    other_sizes: ClassVar[tuple[int, ...]] = ()  # rows of other copies that scores are published on
    without_gold: ClassVar[int] = 0  # rows known to lack a usable answer: kept as in published scores, counting 0

    def __init__(self, path: str | None = None, revision: str | None = None) -> None:
        # Documented here and not on the class, so that `--help` shows it for every subclass.
        """Store where the rows are.

        Args:
            path: A local file or directory in the shape of the hub's, or a hub id; the benchmark's own if not given.
            revision: Commit, tag or branch of a hub id. Only a commit guarantees that the rows never change.
        """
        self.path = path or self.hub
        self.revision = revision
        self.data_version = ""

    @property
    def named(self) -> str:
        """Class and path, for messages."""
        return f"{type(self).__name__}({self.path})"

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return every row; there are none to train on. Refuse a damaged set."""
        if split == "train":
            return []
        files = find_files(self.named, self.path, self.revision, self.config).of_one_file(self.hub_split)
        self.data_version = files.version
        rows = files.read(self.hub_split, self.columns)
        if len(rows) not in (self.size, *self.other_sizes):
            log.warning("%s has %d rows, the benchmark %d: another set, or a part", self.named, len(rows), self.size)
        found = [e for index, row in enumerate(rows) if (e := self.example(task, index, row)) is not None]
        uids = [example.uid for example in found]
        if len(set(uids)) < len(uids):
            twice = next(uid for uid in uids if uids.count(uid) > 1)
            raise BadInput(f"{self.named}: several rows are called {twice!r}; drop the copies")
        bad = {example.uid: why for example in found if (why := text_defect(example.question))}
        if bad:
            why = next(iter(bad.values()))
            raise BadInput(f"{self.named}: rows {', '.join([*bad][:5])} ask nothing ({why}); take another revision")
        empty = [example.uid for example in found if example.reference == ""]
        if len(empty) > self.without_gold:
            raise BadInput(
                f"{self.named}: rows {', '.join(empty[:5])} have no gold answer, and the benchmark is known to lack "
                f"{self.without_gold}; take another revision, or mend the column {self.columns[-1]!r}"
            )
        return found

    @abstractmethod
    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example | None:
        """Return the example of a row with ``columns``; ``None`` if the row is not in the benchmark.

        Raises:
            BadInput: If the row is unusable; names it.
        """


@runtime_checkable
class TwoTurns(Protocol):
    """A source whose conversations have a second question."""

    def follow_up(self, group: Group) -> list[Example]:
        """Return the second turn: one example for each completion of the first."""
        ...
