"""The definition of a study: its runs, their seeds, which runs each one needs, and the resulting jobs."""

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

from omnithink_pl.config_files import find
from omnithink_pl.config_text import read_config
from omnithink_pl.errors import BadInput

# ``{folder}`` or ``{single_code}``; a mapping in YAML's own braces has a colon.
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_BUILT_IN = ("seed", "folder")
# Verbs with Lightning's trainer: they take its arguments, and track themselves.
_TRAINER_VERBS = ("fit", "predict", "prepare", "score", "validate")


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
class Job:
    """One run with one seed, its arguments filled in."""

    run: str  # name of the run in its study
    seed: int
    verb: str
    arguments: tuple[str, ...]
    folder: Path  # folder of its files
    fingerprint: str  # identifies what is run, apart from the seed: arguments, configs, and the runs that it needs
    needs: tuple[str, ...] = ()  # keys of the jobs that come first

    @property
    def key(self) -> str:
        """``joint/0``: the run and its seed."""
        return f"{self.run}/{self.seed}"

    def command(self, tracking_uri: str, experiment: str) -> list[str]:
        """Return verb and arguments of ``main.py``; a fit that left a checkpoint resumes from it."""
        command = [self.verb, *self.arguments]
        if self.verb in _TRAINER_VERBS:
            command += [
                f"--seed_everything={self.seed}",
                f"--name={self.run}",
                f"--trainer.default_root_dir={self.folder.parents[1]}",
                f"--trainer.logger.init_args.tracking_uri={tracking_uri}",
                f"--trainer.logger.init_args.experiment_name={experiment}",
            ]
        if self.verb == "fit":
            last = self.folder / "last.ckpt"
            command += [f"--checkpoints.folder={self.folder.name}"]
            command += [f"--ckpt_path={last}"] if last.is_file() else []
        return command


@dataclass(frozen=True)
class Definition:
    """A study; refuses names and seeds that cannot be used."""

    name: str
    runs: Mapping[str, Run]
    seeds: Sequence[int]  # each run is repeated with each
    arguments: Mapping[str, Sequence[str]]  # further arguments of every run, by verb; they come last, so that they win
    output: Path  # folder of all studies' files
    defaults: Path | None = None  # a file of defaults that every run reads; part of a run's fingerprint

    def __post_init__(self) -> None:
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
        """Return every run with every seed: seed by seed, and a run after those that it needs."""
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

    def _fingerprints(self) -> dict[str, str]:
        """Eight digits that identify what each run does; runs in the listed order, but after those that they need."""
        needs = {name: self._needs(name) for name in self.runs}
        level: dict[str, int] = {}
        try:
            for name in TopologicalSorter(needs).static_order():
                level[name] = max((level[need] + 1 for need in needs[name]), default=0)
        except CycleError as error:
            raise BadInput(f"runs: {' -> '.join(error.args[1])} need each other; break the cycle") from error
        prints: dict[str, str] = {}
        for name in sorted(self.runs, key=lambda name: level[name]):
            content = [
                self.runs[name].verb,
                self._arguments(name),
                [_load_config(path, name, self.defaults) for path in self._configs(name)],
                [prints[need] for need in needs[name]],
            ]
            prints[name] = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:8]
        return prints

    def _configs(self, name: str) -> list[Path]:
        named = list(_configs(self._arguments(name)))
        return named if self.defaults is None else [*named, self.defaults]

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

    def _job(self, name: str, seed: int, prints: Mapping[str, str]) -> Job:
        folders = {run: self.output / self.name / f"seed_{seed}" / run / prints[run] for run in prints}
        values = {**folders, "folder": folders[name], "seed": seed}
        filled = (_PLACEHOLDER.sub(lambda match: str(values[match[1]]), argument) for argument in self._arguments(name))
        needs = tuple(f"{need}/{seed}" for need in self._needs(name))
        return Job(name, seed, self.runs[name].verb, tuple(filled), folders[name], prints[name], needs)


def select_jobs(jobs: Sequence[Job], only: Sequence[str] | None) -> list[Job]:
    """Return the jobs named by run, ``joint``, or by run and seed, ``joint/0``; all if ``only`` is not given."""
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


def _load_config(path: Path, run: str, defaults: Path | None) -> Any:
    if _PLACEHOLDER.search(str(path)):
        return str(path)  # made by another run of the study, which has a fingerprint of its own
    try:
        found = path if defaults is None else find(str(path), defaults.parent)
        return read_config(found)
    except (BadInput, OSError) as error:
        raise BadInput(f"runs.{run}.arguments: cannot read the config {path}: {error}") from error
