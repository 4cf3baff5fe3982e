"""The verb ``prepare``: download, curate and cache the data of every task, and measure its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from omnithink_pl.model.chat import ChatTemplate
from omnithink_pl.model.policy import load_tokenizer
from omnithink_pl.report.console import filter_columns, filter_table
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.tracking import TrackingLogger

if TYPE_CHECKING:
    import lightning as L

    from omnithink_pl.data.module import MultiTaskData
    from omnithink_pl.modules import PolicyModule
    from omnithink_pl.sources.curation import Report, Track
    from omnithink_pl.tasks.base import Task


_CATEGORIES = 6  # shown of each task


@dataclass(frozen=True)
class Prepared:
    """The data of a task.

    Args:
        task: Name of the task.
        report: Counts of the filters; ``None`` for sources that are not curated.
        train: Tokens of each training prompt, templates included.
        test: Tokens of each held-out prompt.
    """

    task: str
    report: Report | None
    train: tuple[int, ...]
    test: tuple[int, ...]

    def metrics(self) -> dict[str, float]:
        """Return rows and tokens under the names of their metrics."""
        prefix = f"data/{self.task}"
        lengths = self.train or (0,)
        return {
            f"{prefix}/train_rows": float(len(self.train)),
            f"{prefix}/test_rows": float(len(self.test)),
            f"{prefix}/prompt_tokens_mean": sum(lengths) / len(lengths),
            f"{prefix}/prompt_tokens_max": float(max(lengths)),
        }


def prepare(trainer: L.Trainer, model: PolicyModule, datamodule: MultiTaskData) -> None:
    """Download, curate and cache the data of every task, so that `fit` starts at once and without a network.

    Cached data is not curated again, unless a branch of the hub has moved. Loads no policy, only its tokenizer.

    Args:
        trainer: Has the loggers.
        model: Has the policy's name.
        datamodule: Has the tasks.
    """
    console = Console()
    chat = ChatTemplate(
        load_tokenizer(model.policy_name, trust_remote_code=model.trust_remote_code), model.chat_template_kwargs
    )
    shown = partial(track, console=console, transient=True, disable=not console.is_terminal)
    prepared: list[Prepared] = []
    try:
        for task in datamodule.tasks.values():
            prepared.append(prepare_task(task, chat, datamodule.seed, shown))
            if (report := prepared[-1].report) is not None:
                console.print(filter_table(task.name, report))
    finally:
        datamodule.teardown("prepare")
    console.print(data_table(prepared))
    reports = {found.task: found.report for found in prepared if found.report is not None}
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger):
            logger.set_tags({"kind": "prepare", "mlflow.runName": "prepare"})
            logger.log_metrics({name: value for found in prepared for name, value in found.metrics().items()})
            logger.artifacts.table(filter_columns(reports), "data.json")
            for name, report in reports.items():
                logger.artifacts.json(asdict(report), f"data/{name}.json")
            console.print(f"also in run {logger.run_id}, artifacts data.json and data/", highlight=False)
            logger.finalize("success")


def prepare_task(task: Task, chat: ChatTemplate, seed: int, track: Track) -> Prepared:
    """Curate a task's data unless it is cached, and measure its prompts.

    Args:
        task: Has the source.
        chat: The policy's chat template.
        seed: Seed of the prompts.
        track: Shows progress.

    Raises:
        BadInput: If the data cannot be loaded or a row cannot be used; names source, row and cure.
    """
    source = task.source
    report = source.prepare(track, refresh=True) if isinstance(source, CuratedSource) else None
    lengths = {
        split: tuple(
            len(chat.encode(example.messages))
            for example in track(task.examples(split, seed), f"{task.name}: counting tokens")
        )
        for split in ("train", "test")
    }
    return Prepared(task.name, report, lengths["train"], lengths["test"])


def data_table(prepared: Sequence[Prepared]) -> Table:
    """Return a line per task: rows, tokens of the prompts, categories."""
    table = Table("task", "train", "held out", "tokens", "mean", "max", "categories")
    for one in prepared:
        lengths = one.train or (0,)
        numbers = [len(one.train), len(one.test), sum(lengths), f"{fmean(lengths):.0f}", max(lengths)]
        categories = one.report.categories if one.report is not None else {}
        shown = [f"{name} {count}" for name, count in list(categories.items())[:_CATEGORIES]]
        more = ["…"] if len(categories) > _CATEGORIES else []
        table.add_row(one.task, *map(str, numbers), Text(", ".join([*shown, *more]) if len(categories) > 1 else ""))
    return table
