"""The definition of a study: its runs, their seeds, and which runs each one needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from omnithink_pl.errors import BadInput
from omnithink_pl.study.job import Job

# ``{folder}`` or ``{single_code}``; a mapping in YAML's own braces has a colon.
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_BUILT_IN = ("seed", "folder")


@dataclass(frozen=True)
class Run:
    """One run of a study, repeated for every seed.

    In its arguments ``{seed}`` and ``{folder}`` stand for the seed and the run's own folder. The name of another run
    in braces, such as ``{single_code}``, stands for the folder of that run with the same seed, and makes this run wait
    for it. A ``fit`` leaves its trained policy in ``{folder}/policy``.

    Args:
        arguments: Arguments of the verb on the command line.
        verb: Verb of ``main.py``.
        method: Name in the report, where runs of the same method are put together; the run's own name if not given; ""
            for a run that is only a step towards others and is not reported.
        paper: Column of the paper's tables that the method reproduces, such as ``joint``; none if not given.
    """

    arguments: list[str] = field(default_factory=list)
    verb: str = "fit"
    method: str | None = None
    paper: str | None = None


@dataclass(frozen=True)
class Definition:
    """A study.

    Args:
        name: Name of the study.
        runs: Its runs by name.
        seeds: Each run is repeated with each.
        arguments: Further arguments of every run, by verb; they come last, so that they win.
        output: Folder of all studies' files.
        defaults: A file of defaults that every run reads; part of a run's fingerprint.
    """

    name: str
    runs: Mapping[str, Run]
    seeds: Sequence[int]
    arguments: Mapping[str, Sequence[str]]
    output: Path
    defaults: Path | None = None

    def check(self) -> None:
        """Refuse names and seeds that cannot be used.

        Raises:
            BadInput: Names the key and the cure.
        """
        for name in (self.name, *self.runs):
            if not re.fullmatch(r"\w+", name):
                raise BadInput(f"runs: {name!r} is no name for a study or run; use letters, digits and _ alone")
            if name in _BUILT_IN and name in self.runs:
                raise BadInput(f"runs.{name}: {{{name}}} has a meaning of its own in arguments; choose another name")
        for key, values in (("seeds", self.seeds), ("runs", self.runs)):
            if not values:
                raise BadInput(f"{key} is empty; give at least one")
        if len(set(self.seeds)) < len(self.seeds):
            raise BadInput(f"seeds: {list(self.seeds)} names one twice; each seed is run once")

    def jobs(self) -> list[Job]:
        """Return every run with every seed: seed by seed, and a run after those that it needs.

        Raises:
            BadInput: If runs need each other, or one that does not exist.
        """
        prints = self._fingerprints()
        return [self._job(name, seed, prints) for seed in self.seeds for name in prints]

    def describe(self) -> dict[str, Any]:
        """Return what a report needs to know of the study, as plain values."""
        prints = self._fingerprints()
        runs = {
            name: {
                "method": name.replace("_", " ") if run.method is None else run.method,
                "verb": run.verb,
                "paper": run.paper,
                "fingerprint": prints[name],
            }
            for name, run in self.runs.items()
        }
        return {"name": self.name, "seeds": list(self.seeds), "runs": runs}

    def _order(self) -> list[str]:
        """The runs as listed, except where a run would precede one that it needs."""
        needs = {name: self._needs(name) for name in self.runs}
        level: dict[str, int] = {}
        try:
            for name in TopologicalSorter(needs).static_order():
                level[name] = max((level[need] + 1 for need in needs[name]), default=0)
        except CycleError as error:
            raise BadInput(f"runs: {' -> '.join(error.args[1])} need each other; break the cycle") from error
        return sorted(self.runs, key=lambda name: level[name])

    def _needs(self, name: str) -> list[str]:
        found = [key for argument in self._arguments(name) for key in _PLACEHOLDER.findall(argument)]
        for key in found:
            if key not in self.runs and key not in _BUILT_IN:
                raise BadInput(
                    f"runs.{name}.arguments: {{{key}}} is no run of this study; use {{seed}}, {{folder}}, or one of "
                    f"{sorted(self.runs)}"
                )
        return list(dict.fromkeys(key for key in found if key in self.runs))

    def _arguments(self, name: str) -> list[str]:
        run = self.runs[name]
        return [*run.arguments, *self.arguments.get(run.verb, ())]

    def _fingerprints(self) -> dict[str, str]:
        """Eight digits for each run, in order: a run with another fingerprint is another run."""
        prints: dict[str, str] = {}
        for name in self._order():
            paths = [*_configs(self._arguments(name)), *([self.defaults] if self.defaults else [])]
            content = [
                self.runs[name].verb,
                self._arguments(name),
                [_load_config(path, name) for path in paths],
                [prints[need] for need in self._needs(name)],
            ]
            prints[name] = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:8]
        return prints

    def _job(self, name: str, seed: int, prints: Mapping[str, str]) -> Job:
        def folder(run: str) -> Path:
            return self.output / self.name / f"seed_{seed}" / run / prints[run]

        needs = self._needs(name)
        values = {"seed": str(seed), "folder": str(folder(name)), **{need: str(folder(need)) for need in needs}}
        filled = (_PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in self._arguments(name))
        return Job(
            run=name,
            seed=seed,
            verb=self.runs[name].verb,
            arguments=tuple(filled),
            folder=folder(name),
            fingerprint=prints[name],
            needs=tuple(f"{need}/{seed}" for need in needs),
        )


def select_jobs(jobs: Sequence[Job], only: Sequence[str] | None) -> list[Job]:
    """Return the jobs named by run, ``joint``, or by run and seed, ``joint/0``; all if ``only`` is not given.

    Raises:
        BadInput: If one does not exist.
    """
    if only is None:
        return list(jobs)
    known = {name for job in jobs for name in (job.run, job.key)}
    for name in only:
        if name not in known:
            raise BadInput(f"only: {name!r} is no run of this study; choose from {sorted(known)}")
    return [job for job in jobs if job.run in only or job.key in only]


def _configs(arguments: Sequence[str]) -> Iterator[Path]:
    """Configs named as ``--config=a.yaml`` or as ``--config`` and ``a.yaml``."""
    for argument, following in pairwise([*arguments, ""]):
        if argument.startswith("--config="):
            yield Path(argument.partition("=")[2])
        elif argument == "--config":
            yield Path(following)


def _load_config(path: Path, run: str) -> Any:
    if _PLACEHOLDER.search(str(path)):
        return str(path)  # made by another run of the study, which has a fingerprint of its own
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(f"runs.{run}.arguments: cannot read the config {path}: {error}") from error
