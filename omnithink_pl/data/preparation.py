"""Getting a task's data ready, so that training starts at once and without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnithink_pl.sources.curated import CuratedSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from omnithink_pl.sources.curation import Report, Track
    from omnithink_pl.tasks.base import Task


@dataclass(frozen=True)
class Prepared:
    """What a task's data came to.

    Args:
        task: Its name.
        report: What became of the rows; ``None`` for embedded ones and for sources that are not curated.
        train: Tokens of each training prompt, templates included.
        test: Tokens of each held-out prompt.
    """

    task: str
    report: Report | None
    train: tuple[int, ...]
    test: tuple[int, ...]

    def metrics(self) -> dict[str, float]:
        """Rows and tokens, as they are logged."""
        prefix = f"data/{self.task}"
        lengths = self.train or (0,)
        return {
            f"{prefix}/train_rows": float(len(self.train)),
            f"{prefix}/test_rows": float(len(self.test)),
            f"{prefix}/prompt_tokens_mean": sum(lengths) / len(lengths),
            f"{prefix}/prompt_tokens_max": float(max(lengths)),
        }


def prepare_task(task: Task, tokenizer: PreTrainedTokenizerBase, seed: int, track: Track) -> Prepared:
    """Download and curate a task's data where that is not done yet, and measure its prompts.

    Args:
        task: Has the source.
        tokenizer: The policy's.
        seed: Of the prompts.
        track: Shows progress through a sequence.

    Raises:
        BadInput: If the data cannot be had or a row cannot be used; names source, row and cure.
    """
    source = task.source
    report = source.prepare(track, refresh=True) if isinstance(source, CuratedSource) else None
    lengths = {
        split: tuple(
            len(tokenizer.apply_chat_template(list(example.messages), add_generation_prompt=True, return_dict=False))
            for example in track(task.examples(split, seed), f"{task.name}: counting tokens")
        )
        for split in ("train", "test")
    }
    return Prepared(task.name, report, lengths["train"], lengths["test"])
