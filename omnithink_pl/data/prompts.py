"""The training prompts in numbered batches, for sampling without training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from omnithink_pl.types import Example


class PromptBatch(NamedTuple):
    """Some prompts of the training split.

    Args:
        number: Its place among all batches, from which its seed follows.
        examples: The prompts.
    """

    number: int
    examples: list[Example]


def prompt_batches(examples: Sequence[Example], size: int, done: Collection[int] = ()) -> list[PromptBatch]:
    """Every example once, in order.

    Args:
        examples: Of all tasks.
        size: Examples of a batch; the last may have fewer.
        done: Numbers of batches to leave out.
    """
    starts = range(0, len(examples), size)
    batches = (PromptBatch(number, list(examples[at : at + size])) for number, at in enumerate(starts))
    return [batch for batch in batches if batch.number not in done]
