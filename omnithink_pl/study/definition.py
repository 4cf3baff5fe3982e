"""What a study consists of: runs, their seeds, and what each run needs of others."""

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
_PLACE = re.compile(r"\{(\w+)\}")
_OWN_PLACES = ("seed", "folder")


@dataclass(frozen=True)
class Run:
    """One run of a study, repeated for every seed.

    In its arguments ``{seed}`` and ``{folder}`` stand for the seed and the run's own folder. The name of another run
    in braces, such as ``{single_code}``, stands for the folder of that run with the same seed, and makes this run wait
    for it. A ``fit`` leaves its trained policy in ``{folder}/policy``.

    Args:
        arguments: What follows the verb on the command line.
        verb: What ``main.py`` is asked to do.
        method: Name in the report, under which the scores of runs of the same method stand together; the run's own
            name if not given; "" for a run that is only a step and takes no part in it.
        paper: Column of the paper's tables that the method repeats, such as ``joint``; none if not given.
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
        seeds: Each run is done once with each.
        arguments: Further arguments of every run, by verb; they come last, so that they win.
        output: Folder of all studies' files.
        defaults: A file of defaults that every run reads; part of what identifies a run.
    """

    name: str
    runs: Mapping[str, Run]
    seeds: Sequence[int]
    arguments: Mapping[str, Sequence[str]]
    output: Path
    defaults: Path | None = None

    def jobs(self) -> list[Job]:
        """Every run with every seed: seed by seed, and a run after those that it needs.

        Raises:
            BadInput: If runs need each other, or one that does not exist.
        """
        order = self._order()
        prints: dict[str, str] = {}
        for name in order:
            prints[name] = self._fingerprint(name, prints)
        return [self._job(name, seed, prints) for seed in self.seeds for name in order]

    def needs(self, name: str) -> list[str]:
        """The runs that a run's arguments refer to.

        Raises:
            BadInput: If a name in braces is no run of the study.
        """
        found = [place for argument in self._arguments(name) for place in _PLACE.findall(argument)]
        for place in found:
            if place not in self.runs and place not in _OWN_PLACES:
                raise BadInput(
                    f"runs.{name}.arguments: {{{place}}} is no run of this study; use {{seed}}, {{folder}}, or one of "
                    f"{sorted(self.runs)}"
                )
        return list(dict.fromkeys(place for place in found if place in self.runs))

    def _order(self) -> list[str]:
        needs = {name: self.needs(name) for name in self.runs}
        try:
            sorted_names = list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise BadInput(f"runs: {' -> '.join(error.args[1])} need each other; break the circle") from error
        # As they stand in the file, except where that would be before what a run needs.
        level: dict[str, int] = {}
        for name in sorted_names:
            level[name] = max((level[need] + 1 for need in needs[name]), default=0)
        return sorted(self.runs, key=lambda name: level[name])

    def _arguments(self, name: str) -> list[str]:
        run = self.runs[name]
        return [*run.arguments, *self.arguments.get(run.verb, ())]

    def _fingerprint(self, name: str, prints: Mapping[str, str]) -> str:
        """What a run depends on, in eight digits: a run with another print is another run."""
        configs = list(_configs(self._arguments(name)))
        parts = [
            self.runs[name].verb,
            self._arguments(name),
            [_content(path, name) for path in (*configs, *([self.defaults] if self.defaults else []))],
            [prints[need] for need in self.needs(name)],
        ]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:8]

    def _job(self, name: str, seed: int, prints: Mapping[str, str]) -> Job:
        run = self.runs[name]
        places = {"seed": str(seed), "folder": str(self._folder(name, seed, prints))}
        places |= {need: str(self._folder(need, seed, prints)) for need in self.needs(name)}
        filled = [_PLACE.sub(lambda match: places[match[1]], argument) for argument in self._arguments(name)]
        return Job(
            run=name,
            seed=seed,
            verb=run.verb,
            arguments=tuple(filled),
            folder=self._folder(name, seed, prints),
            fingerprint=prints[name],
            needs=tuple(f"{need}/{seed}" for need in self.needs(name)),
        )

    def _folder(self, name: str, seed: int, prints: Mapping[str, str]) -> Path:
        return self.output / self.name / f"seed_{seed}" / name / prints[name]

    def describe(self) -> dict[str, Any]:
        """What a report needs to know of the study, as plain values."""
        prints = {job.run: job.fingerprint for job in self.jobs()}
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


def chosen(jobs: Sequence[Job], only: Sequence[str] | None) -> list[Job]:
    """The jobs that were asked for: by run, ``joint``, or by run and seed, ``joint/0``; all if nothing was.

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


def check(definition: Definition) -> None:
    """Refuse a study that cannot be carried out.

    Raises:
        BadInput: Names the key and the cure.
    """
    for name in _bad_names([definition.name, *definition.runs]):
        raise BadInput(f"runs: {name!r} is no name for a study or run; use letters, digits and _ alone")
    for own in set(_OWN_PLACES) & set(definition.runs):
        raise BadInput(f"runs.{own}: {{{own}}} has a meaning of its own in arguments; choose another name")
    for key, values in (("seeds", list(definition.seeds)), ("runs", list(definition.runs))):
        if not values:
            raise BadInput(f"{key} is empty; give at least one")
    if len(set(definition.seeds)) < len(definition.seeds):
        raise BadInput(f"seeds: {list(definition.seeds)} names one twice; a run is done once with each seed")


def _bad_names(names: Sequence[str]) -> Iterator[str]:
    return (name for name in names if not re.fullmatch(r"\w+", name))


def _configs(arguments: Sequence[str]) -> Iterator[Path]:
    """The configs that are named, as ``--config=a.yaml`` or as ``--config`` and ``a.yaml``."""
    for argument, following in pairwise([*arguments, ""]):
        if argument.startswith("--config="):
            yield Path(argument.partition("=")[2])
        elif argument == "--config":
            yield Path(following)


def _content(path: Path, run: str) -> Any:
    if _PLACE.search(str(path)):
        return str(path)  # made by another run of the study, which has a print of its own
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(f"runs.{run}.arguments: cannot read the config {path}: {error}") from error
