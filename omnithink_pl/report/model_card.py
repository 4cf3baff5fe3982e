"""The model card of a trained policy: what it was made of, what it scores, and what it forgot. Text alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import yaml

from omnithink_pl import __version__
from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix, changes, mean_estimate, mean_scores
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report.output import markdown_table, points, row_name, with_interval

PAPER = "2507.14783"
_USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
messages = [
    {{"role": "system", "content": {system!r}}},
    {{"role": "user", "content": "..."}},
]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens={tokens})[0]))
```"""


@dataclass(frozen=True)
class ModelCard:
    """What a card says.

    Args:
        title: Kind of run.
        base: The policy that training began with: ``embedded``, a directory or a hub id.
        method: Class of the module that trained it.
        stages: The plan as it was trained.
        matrix: Scores of the base and after each stage; without rows if nothing was evaluated.
        settings: What else a reader needs to repeat the run, by name.
        system: System prompt of the tasks.
        max_tokens: Longest completion in training.
    """

    title: str
    base: str
    method: str
    stages: Sequence[Stage]
    matrix: ScoreMatrix
    settings: Mapping[str, Any]
    system: str
    max_tokens: int

    def markdown(self, name: str) -> str:
        """Return the card as the ``README.md`` of a model that ``from_pretrained`` finds as ``name``."""
        head = yaml.safe_dump(self._metadata(), sort_keys=False, allow_unicode=True)
        parts = [f"---\n{head}---\n\n# {self.title}", self._origin(), "## Training", self._training()]
        if self.matrix.rows:
            parts += ["## Scores", self._scores(), "## Forgetting", self._forgotten()]
        parts += ["## Use", _USE.format(name=name, system=self.system, tokens=self.max_tokens)]
        return "\n\n".join(parts) + "\n"

    def _metadata(self) -> dict[str, Any]:
        """What the hub reads; a base that is no hub id is left out, because it would be looked up there."""
        hub_id = (
            self.base.count("/") == 1 and not self.base.startswith((".", "/", "~")) and not Path(self.base).exists()
        )
        return {
            **({"base_model": self.base} if hub_id else {}),
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["omni-think", "grpo", "reinforcement-learning", "curriculum-learning", f"arxiv:{PAPER}"],
        }

    def _origin(self) -> str:
        base = Path(self.base).name if Path(self.base).is_absolute() else self.base  # a path says where, not what
        return (
            f"`{base}`, trained by `{self.method}` in a run of the kind `{self.title}`, with Omni-Think on Lightning "
            f"{__version__} after [Omni-Think](https://arxiv.org/abs/{PAPER})."
        )

    def _training(self) -> str:
        rows = [
            [str(number), ", ".join(f"{task} {weight:g}" for task, weight in stage.mixture.items()), str(stage.steps)]
            for number, stage in enumerate(self.stages, 1)
        ]
        table = markdown_table(["stage", "tasks and their weights", "steps"], rows)
        return "\n".join([*table, "", *(f"* {name}: `{value}`" for name, value in self.settings.items())])

    def _scores(self) -> str:
        matrix = self.matrix
        rows = [
            [row_name(label), *(with_interval(row[task].estimate) for task in matrix.tasks), with_interval(average)]
            for label, row, average in zip(matrix.labels, matrix.rows, mean_scores(matrix), strict=True)
        ]
        last = matrix.rows[-1]
        greedy = {task: Estimate(s.greedy, s.greedy_low, s.greedy_high) for task, s in last.items()}
        rows.append(["at the end, greedy", *map(with_interval, greedy.values()), with_interval(mean_estimate(greedy))])
        sizes = {f"{task}: {score.prompts} prompts, {score.samples} samples" for task, score in last.items()}
        note = (
            "The tasks' own rewards on held-out prompts in percent, with 95 % intervals, sampled at temperature 1 "
            f"unless said otherwise ({'; '.join(sorted(sizes))})."
        )
        return "\n".join([note, "", *markdown_table(["", *matrix.tasks, "mean"], rows)])

    def _forgotten(self) -> str:
        """Base minus the last row, the paper's measure, with what its interval allows to say."""
        found = {task: Estimate(-c.value, -c.high, -c.low) for task, c in changes(self.matrix).items()}
        if not found:
            return "No stage has ended: nothing could be forgotten."
        rows = [[task, with_interval(lost, partial(points)), _verdict(lost)] for task, lost in found.items()]
        note = "Score of the base minus the score at the end, in points: positive where the task was forgotten."
        return "\n".join([note, "", *markdown_table(["task", "forgotten", ""], rows)])


def _verdict(lost: Estimate) -> str:
    """Say what an interval shows; without one, or without a score, nothing."""
    if isnan(lost.value):
        return "not measured"
    return "forgotten" if lost.low > 0 else "learned" if lost.high < 0 else "no change beyond the interval"
