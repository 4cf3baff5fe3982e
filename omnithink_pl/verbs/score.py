"""The verb ``score``: rewards without training."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from rich.console import Console

from omnithink_pl.data import MultiTaskData
from omnithink_pl.evaluation.completions import score_completions
from omnithink_pl.report.reward_table import reward_summary, reward_table
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.rollouts import rollout_table


def score(trainer: L.Trainer, model: L.LightningModule, datamodule: MultiTaskData, completions: str) -> None:
    """Score completions from a file with the rewards of a config, and print them; loads no policy.

    Args:
        trainer: Has the loggers.
        model: Not used; Lightning's command line passes it.
        datamodule: Has the tasks.
        completions: A JSON-lines file. Each row has ``task``, ``completion``, and either the ``uid`` of an
            example or its ``question`` and ``reference``.
    """
    try:
        groups = score_completions(Path(completions), datamodule.tasks, datamodule.seed)
    finally:
        datamodule.teardown("score")
    console = Console()
    console.print(reward_table(groups))
    console.print(reward_summary(groups))
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger):
            logger.set_tags({"kind": "score", "mlflow.runName": "score"})
            logger.artifacts.table(rollout_table(groups, 0), "scores.json")
            console.print(f"also in run {logger.run_id}, artifact scores.json", highlight=False)
            logger.finalize("success")
