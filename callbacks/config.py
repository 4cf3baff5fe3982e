"""Stores the resolved configuration of a run as an artifact."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.lookups import module_of
from callbacks.tracking import from_step, tracking_logger


class SaveResolvedConfig(SaveConfigCallback):
    """Stores ``config.yaml`` in the tracked run, from which the run can be repeated.

    Lightning's own callback writes it to the logger's directory, which a database does not have, and
    before a checkpoint has said which run it continues. A resumed run stores its configuration beside
    the first one, because it may differ. Verbs that do not train, and have no hooks of Lightning's, hand it over before
    they begin.

    Args:
        parser: Lightning's parser.
        config: What it parsed.
        **kwargs: Passed on.
    """

    def __init__(self, parser: LightningArgumentParser, config: Any, **kwargs: Any) -> None:
        super().__init__(parser, config, **{**kwargs, "save_to_log_dir": False})
        self.text = ""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the configuration down before training can change anything it refers to."""
        self.text = self.parser.dump(self.config, skip_none=False, skip_validation=True)  # it was parsed just now
        if stage == "predict":
            self.hand_over(trainer)

    def hand_over(self, trainer: L.Trainer) -> None:
        """Have it stored with the run, if there will be one."""
        logger = tracking_logger(trainer)
        if logger is not None:
            logger.keep(self.parser.dump(self.config, skip_none=False, skip_validation=True), "config.yaml")

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store it, now that the run is known."""
        logger = tracking_logger(trainer)
        if logger is not None:
            logger.artifacts.text(self.text, from_step("config.yaml", module_of(trainer).steps_done))
