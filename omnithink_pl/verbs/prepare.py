"""The verb ``prepare``: data before training."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import lightning as L
from rich.console import Console
from rich.progress import track

from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.preparation import Prepared, prepare_task
from omnithink_pl.modules import PolicyModule
from omnithink_pl.policy import load_tokenizer
from omnithink_pl.report.data_table import data_table, filter_columns, filter_table
from omnithink_pl.tracking import TrackingLogger


def prepare(trainer: L.Trainer, model: PolicyModule, datamodule: MultiTaskData) -> None:
    """Download, curate and cache the data of every task, so that `fit` starts at once and without a network.

    What is done already is not done again; of a hub's branch it is asked whether it has moved. Loads no policy,
    only its tokenizer.

    Args:
        trainer: Has the loggers.
        model: Knows the policy's name.
        datamodule: Has the tasks.
    """
    console = Console()
    tokenizer = load_tokenizer(model.policy_name)
    prepared: list[Prepared] = []
    try:
        for task in datamodule.tasks.values():
            shown = partial(track, console=console, transient=True, disable=not console.is_terminal)
            prepared.append(prepare_task(task, tokenizer, datamodule.seed, shown))
            if (report := prepared[-1].report) is not None:
                console.print(filter_table(task.name, report))
    finally:
        datamodule.teardown("prepare")
    console.print(data_table(prepared))
    _track(trainer, prepared, console)


def _track(trainer: L.Trainer, prepared: list[Prepared], console: Console) -> None:
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
