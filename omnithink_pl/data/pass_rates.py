"""Pass rates: how often a policy solves each training prompt, and which prompts are trained because of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from omnithink_pl.distributed.collectives import process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example, State

if TYPE_CHECKING:
    from omnithink_pl.grpo.advantage import ScoredGroup

log = logging.getLogger(__name__)

FILE = "pass_rates.json"

Rates: TypeAlias = dict[str, dict[str, float]]
"""Pass rate of each prompt: by task, then by the row's ``uid``."""


def pass_rates(groups: Sequence[ScoredGroup]) -> Rates:
    """Return the mean primary reward of each group's completions, scaled from its range to [0, 1].

    A completion without an answer has the least reward; one that we failed to score does not count, and a prompt of
    which none was scored has no rate.
    """
    rates: Rates = {}
    for scored in groups:
        values = [score.primary_value for score in scored.scores if score.state is not State.FAILED]
        if values:
            low, high = scored.scores[0].components[0].range
            rates.setdefault(scored.task, {})[scored.group.example.uid] = (fmean(values) - low) / (high - low)
    return rates


@dataclass(frozen=True)
class PassRates:
    """Trains only the prompts that a policy solves neither never nor always, as ``predict`` found.

    Where all completions of a group are right, or all wrong, it teaches nothing of the task, but costs as much to
    sample. ``omnithink_pl.data.samplers.AdaptiveSampler`` learns the same while it trains, which pays where prompts are
    met several times.

    Args:
        path: Folder that ``predict`` wrote (``demonstrations.output``), sampling from the policy that training begins
            with. Prompts that it did not sample are left out, but where no sampled prompt of a task remains: then they
            are what is trained.
        least: Prompts with a lower pass rate are left out.
        most: Those with a higher one are.
    """

    path: str
    least: float = 0.1
    most: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.least <= self.most <= 1.0:
            raise BadInput(
                f"data.pass_rates keeps rates from least {self.least} to most {self.most}; use 0 <= least <= most <= 1"
            )

    def select(self, examples: Mapping[str, Sequence[Example]]) -> dict[str, list[Example]]:
        """Return the examples of each task that are trained, in their order.

        Args:
            examples: Training examples by task.

        Raises:
            BadInput: If there is no file of pass rates, it belongs to other data, or a task keeps no example.
        """
        found = self._read()
        return {task: self._of_task(task, rows, found.get(task, {})) for task, rows in examples.items()}

    def _of_task(self, task: str, rows: Sequence[Example], rates: Mapping[str, float]) -> list[Example]:
        sampled = [row for row in rows if row.uid in rates]
        if rates and not sampled:
            raise BadInput(f"data.pass_rates: {self.path} has other prompts of {task} than data.tasks.{task} has now")
        if not rates:
            _say(logging.INFO, "%s: all %d prompts are trained, data.pass_rates has none of them", task, len(rows))
            return list(rows)
        bounds = f"a pass rate of {self.least:g} to {self.most:g}"
        if kept := [row for row in sampled if self.least <= rates[row.uid] <= self.most]:
            _say(logging.INFO, "%s: %d of %d prompts are trained, those with %s", task, len(kept), len(rows), bounds)
            return kept
        unknown = [row for row in rows if row.uid not in rates]
        none = f"of {len(sampled)} prompts none has {bounds} (mean {fmean(rates[row.uid] for row in sampled):.2f})"
        cure = "sample more of them (data.sampled_prompts), or widen data.pass_rates.least and most"
        if not unknown:
            raise BadInput(f"data.pass_rates: {task}: {none}, and there are no others; {cure}")
        _say(logging.WARNING, "%s: %s, so that the %d others are trained; %s", task, none, len(unknown), cure)
        return unknown

    def _read(self) -> Rates:
        path = Path(self.path) / FILE
        try:
            content: object = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise BadInput(
                f"data.pass_rates.path: {self.path} has no {FILE}; `main.py predict --demonstrations.output="
                f"{self.path}` writes it when it has sampled all prompts"
            ) from error
        except ValueError as error:
            raise BadInput(f"data.pass_rates.path: {path} is not JSON ({error}); let `predict` write it") from error
        if not _is_rates(content):
            raise BadInput(f"data.pass_rates.path: {path} does not map tasks to rows to rates; let `predict` write it")
        return content


def _say(level: int, message: str, *arguments: object) -> None:
    if process_rank() == 0:
        log.log(level, message, *arguments)


def _is_rates(content: object) -> TypeGuard[Rates]:
    return isinstance(content, dict) and all(
        isinstance(table, dict) and all(isinstance(rate, float) for rate in table.values())
        for table in content.values()
    )
