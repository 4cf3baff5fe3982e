"""The interface of a task: the source of its examples, its prompt and its rewards."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

from omnithink_pl.errors import BadInput
from omnithink_pl.prompts import render
from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.format import FormatReward, TagsReward
from omnithink_pl.rewards.scoring import Rubric
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.cells import text_defect
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.types import Example, Options

SYSTEM_PROMPT = "system_v1"
"""Name of the template that asks for the think and answer segments."""


class Task(ABC):
    """One task of the mixture.

    Args:
        source: Training and held-out examples.
        reward: The primary reward, with weight 1.
        system_prompt: Template that asks for the think and answer segments: its name in the package, or a file.
        format_weight: Weight of the format reward; the paper has 0.1.
        tags_weight: Weight of the tags reward; the paper has 0.1.
    """

    name: str = "custom"  # the key under `data.tasks`, once it stands there
    metric: str
    reference_type: ClassVar[type] = object
    """What the reward compares with."""

    def __init__(
        self,
        source: Source,
        reward: Reward,
        system_prompt: str = SYSTEM_PROMPT,
        format_weight: float = 0.1,
        tags_weight: float = 0.1,
    ) -> None:
        self.source = source
        self.system_prompt = render(system_prompt)
        self.rubric = Rubric(((reward, 1.0), (FormatReward(), format_weight), (TagsReward(), tags_weight)))

    @abstractmethod
    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the user's message for an example.

        Args:
            example: Question and reference; options are in the order in which they are to be shown.
            rng: Seeded with (seed, uid), for templates with random parts.
        """

    def examples(self, split: Split, seed: int) -> list[Example]:
        """Return the examples of a split with their prompts filled in.

        Raises:
            BadInput: If the split is empty, or an example cannot be used; names it.
        """
        checked = self._checked(self.source.examples(self.name, split), split)
        found = [self._with_messages(example, seed) for example in checked]
        if not found:
            report = self.source.report() if isinstance(self.source, CuratedSource) else None
            raise BadInput(
                f"data.tasks.{self.name}.source: the {split} split is empty; "
                f"check its path, or give it a file of {split} rows{f' ({report.summary()})' if report else ''}"
            )
        return found

    def close(self) -> None:
        """Release what the rewards hold."""
        self.rubric.close()

    def _checked(self, examples: Iterable[Example], split: Split) -> Iterator[Example]:
        """Yield examples; refuse those that no source should give, whoever wrote it."""
        seen: set[str] = set()
        for example in examples:
            where = f"data.tasks.{self.name}.source: example {example.uid!r} of the {split} split"
            if example.uid in seen:
                raise BadInput(f"{where} is there twice; give each example a uid of its own")
            seen.add(example.uid)
            for what, text in (("uid", example.uid), ("question", example.question)):
                if defect := text_defect(text):
                    raise BadInput(f"{where}: its {what} cannot be used: {defect}")
            if not isinstance(example.reference, self.reference_type):
                raise BadInput(
                    f"{where}: its reference is of the type {type(example.reference).__name__}, and "
                    f"{type(self).__name__} needs {self.reference_type.__name__}; use a source that fits the task"
                )
            yield example

    def _with_messages(self, example: Example, seed: int) -> Example:
        rng = random.Random(f"{seed}:{example.uid}")
        if isinstance(options := example.reference, Options):
            # Shuffled in the reference, not only in the prompt: the letter reward needs the order too.
            shuffled = replace(options, texts=tuple(rng.sample(options.texts, len(options.texts))))
            example = replace(example, reference=shuffled)
        question = self.ask(example, rng)
        return replace(
            example,
            messages=({"role": "system", "content": self.system_prompt}, {"role": "user", "content": question}),
        )
