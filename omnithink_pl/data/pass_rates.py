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
            with. Prompts that it did not sample are left out; a task of which it sampled none keeps all of its prompts.
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
        chosen = {
            task: self._of_task(task, rows, found[task]) if task in found else list(rows)
            for task, rows in examples.items()
        }
        if process_rank() == 0:
            bounds = f"those with a pass rate of {self.least:g} to {self.most:g}"
            for task, kept in chosen.items():
                which = bounds if task in found else "data.pass_rates has none of them"
                log.info("%s: %d of %d prompts are trained, %s", task, len(kept), len(examples[task]), which)
        return chosen

    def _of_task(self, task: str, rows: Sequence[Example], rates: Mapping[str, float]) -> list[Example]:
        sampled = [row for row in rows if row.uid in rates]
        kept = [row for row in sampled if self.least <= rates[row.uid] <= self.most]
        if not sampled:
            raise BadInput(f"data.pass_rates: {self.path} has other prompts of {task} than data.tasks.{task} has now")
        if not kept:
            raise BadInput(
                f"data.pass_rates: of {len(sampled)} prompts of {task} none has a pass rate of {self.least:g} to "
                f"{self.most:g} (mean {fmean(rates[row.uid] for row in sampled):.2f}); sample more of them "
                f"(data.sampled_prompts), or widen least and most"
            )
        return kept

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


def _is_rates(content: object) -> TypeGuard[Rates]:
    return isinstance(content, dict) and all(
        isinstance(table, dict) and all(isinstance(rate, float) for rate in table.values())
        for table in content.values()
    )
