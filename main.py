"""Omni-Think on Lightning: the command line.

python main.py fit --config configs/curriculum.yaml
python main.py fit --config configs/curriculum.yaml --ckpt_path last
python main.py fit --help
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

import torch
import transformers
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from callbacks.checkpoints import CheckpointError, Checkpoints
from callbacks.config import SaveResolvedConfig
from callbacks.curriculum import Curriculum
from callbacks.evaluation import StageEvaluation
from callbacks.progress import CurriculumProgress
from callbacks.resume import find_checkpoint, read_checkpoint
from callbacks.tracking import Tracking
from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.modules.mt_grpo import RewardFailure, TrainingDiverged
from omnithink_pl.tracking import TrackingError, TrackingLogger

CONFIGS = Path(__file__).parent.resolve() / "configs"
# What a user can mend; anything else is a bug and keeps its traceback.
EXPECTED = (BadInput, CheckpointError, EngineFailure, RewardFailure, TrackingError, TrainingDiverged)

log = logging.getLogger("omnithink")


class OmniThinkCLI(LightningCLI):
    """Composes data, module and callbacks from configs; every default stands in ``configs/base.yaml``."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """What can be done so far."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The callbacks that a run consists of, each under its own key, and the links between the parts."""
        parser.add_argument("--name", type=str, default="run", help="Kind of run; names its runs and its outputs.")
        parser.add_argument("--torch_threads", type=int | None, default=None, help="CPU threads; null: torch's choice.")
        # Order matters: a stage begins before it is evaluated, an evaluation is saved before training goes on.
        parser.add_lightning_class_args(Curriculum, "curriculum")
        parser.add_lightning_class_args(StageEvaluation, "evaluation")
        parser.add_lightning_class_args(Tracking, "tracking")
        parser.add_lightning_class_args(CurriculumProgress, "progress")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.link_arguments("name", "tracking.name")
        parser.link_arguments("name", "checkpoints.name")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("curriculum.stages", "data.stages")
        parser.link_arguments("data.tasks", "model.tasks", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Set the number of threads before anything starts its own."""
        threads = self.config[str(self.subcommand)].torch_threads
        if threads is not None:
            torch.set_num_threads(threads)

    def before_fit(self) -> None:
        """Resolve ``--ckpt_path last``, and continue the run that wrote the checkpoint."""
        config = self.config_init[str(self.subcommand)]
        found = find_checkpoint(config.get("ckpt_path"), Path(self.trainer.default_root_dir) / config["name"])
        config["ckpt_path"] = None if found is None else str(found)
        if found is None:
            return
        resumed = read_checkpoint(found, self.datamodule.stages)
        log.info("Continuing %s after step %d", found, resumed.steps_done)
        config["weights_only"] = True  # our checkpoints hold plain values: unpickling anything else is refused
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Checkpoints):
                callback.resume(found)
        for logger in self.trainer.loggers:
            if isinstance(logger, TrackingLogger) and resumed.run_id:
                logger.resume(resumed.run_id)


def main(args: list[str] | None = None) -> OmniThinkCLI:
    """Run the command line.

    Args:
        args: Its arguments; those of this process if not given.
    """
    return OmniThinkCLI(
        MultiTaskGRPO,
        MultiTaskData,
        args=args,
        auto_configure_optimizers=False,
        save_config_callback=SaveResolvedConfig,
        seed_everything_default=0,
        parser_kwargs={"fit": {"default_config_files": [str(CONFIGS / "base.yaml")]}},
    )


def quiet_libraries() -> None:
    """Leave the console to the run's own display; errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "mlflow",
        "alembic",
        "datasets",
        "transformers",
        "vllm",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    # Lightning advises worker processes; our rows are in memory.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)


if __name__ == "__main__":
    quiet_libraries()
    try:
        main()
    except EXPECTED as error:
        sys.exit(f"error: {error}")
