"""Omni-Think on Lightning: the command line.

python main.py fit --config configs/curriculum.yaml
python main.py fit --config configs/curriculum.yaml --ckpt_path last
python main.py predict --config configs/sft_data.yaml
python main.py fit --config configs/sft.yaml
python main.py validate --config configs/curriculum.yaml --ckpt_path last
python main.py score --config configs/curriculum.yaml --completions completions.jsonl
python main.py budget --config configs/scale/lora.yaml
python main.py prepare --config configs/scale/qwen2.5-7b.yaml
python main.py merge --config configs/merge.yaml
python main.py fit --help
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
import transformers
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from callbacks import CALLBACKS, SaveResolvedConfig, prepare_resume
from callbacks.checkpoints import CheckpointError
from callbacks.resume import find_checkpoint
from omnithink_pl.cli import readable
from omnithink_pl.curriculum.stages import trained_tasks
from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput, EngineFailure, PeerFailure, RewardFailure, TrainingDiverged
from omnithink_pl.merge import Merge
from omnithink_pl.modules import PolicyModule, RejectionSampling
from omnithink_pl.report.verbs import PlanCurriculum, Report
from omnithink_pl.study.tool import Study, StudyIncomplete
from omnithink_pl.tracking import TrackingError
from omnithink_pl.verbs import OmniThinkTrainer

CONFIGS = Path(__file__).parent.resolve() / "configs"
# What a user can mend; anything else is a bug and keeps its traceback.
EXPECTED = (
    BadInput,
    CheckpointError,
    EngineFailure,
    PeerFailure,
    RewardFailure,
    StudyIncomplete,
    TrackingError,
    TrainingDiverged,
)

# Verbs that need no trainer: each is a class whose arguments are the command's, and whose ``run`` does it.
TOOLS: dict[str, type[Tool]] = {"merge": Merge, "study": Study, "report": Report, "plan": PlanCurriculum}

# What is set in one place and needed in two: target and source.
LINKS = {
    "tracking.name": "name",
    "checkpoints.name": "name",
    "data.seed": "seed_everything",
    "model.init_args.seed": "seed_everything",
}

TASKS = "model.init_args.tasks"

MODULE = "omnithink_pl.modules.MultiTaskGRPO"  # of a run whose config names none

log = logging.getLogger("omnithink")


class Tool(Protocol):
    """What ``TOOLS`` has."""

    def run(self) -> None:
        """Do it, and print what came of it."""
        ...


class ModuleParser(LightningArgumentParser):
    """A parser to which a class without a default is one that must be given, not one that may be null.

    Otherwise jsonargparse tries null where a module refuses its settings, and buries the module's message.
    """

    def add_subclass_arguments(self, *args: Any, **kwargs: Any) -> Any:
        """As in jsonargparse, with our default."""
        return super().add_subclass_arguments(*args, **({"default": {"class_path": MODULE}} | kwargs))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """As in jsonargparse, with the causes alone, and without a page of usage before them."""
        if not self.exit_on_error:  # a parser inside another, whose message goes into that one's
            super().error(message, ex)
        self.exit(
            2, f"error: {readable(message)}\n{self.prog.replace(' [options]', '')} --help lists what can be set\n"
        )


class OmniThinkCLI(LightningCLI):
    """Composes data, module and callbacks from configs; every default stands in ``configs/base.yaml``."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """What can be done so far, and which arguments of it are not the user's."""
        ours = {"model", "datamodule"}
        lightning = {verb: LightningCLI.subcommands()[verb] for verb in ("fit", "predict")}
        return lightning | dict.fromkeys(("prepare", "validate", "score", "budget"), ours)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The callbacks that a run consists of, each under its own key, and the links between the parts."""
        parser.add_argument("--name", type=str, default="run", help="Kind of run; names its runs and its outputs.")
        parser.add_argument("--torch_threads", type=int | None, default=None, help="CPU threads; null: torch's choice.")
        for key, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
        for target, source in LINKS.items():
            parser.link_arguments(source, target)
        parser.link_arguments("curriculum.stages", "data.trained_tasks", compute_fn=trained_tasks)
        parser.link_arguments("data.tasks", TASKS, apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Refuse keys that would be ignored; set the number of threads before anything starts its own."""
        config = self.config[str(self.subcommand)]
        for path in config.config or []:
            refuse_linked_keys(Path(path.absolute))
        if self.subcommand == "budget":
            plan_here(config)
        threads = config.torch_threads
        if threads is not None:
            torch.set_num_threads(threads)

    def before_predict(self) -> None:
        """Refuse a module that trains: Lightning's own complaint would name no key."""
        if not isinstance(self.model, RejectionSampling):
            raise BadInput(
                f"model.class_path: predict samples with omnithink_pl.modules.RejectionSampling, not with "
                f"{type(self.model).__name__}; see configs/sft_data.yaml"
            )

    def before_fit(self) -> None:
        """Resolve ``--ckpt_path last``, and continue the run that wrote the checkpoint."""
        config = self.config_init[str(self.subcommand)]
        found = prepare_resume(self.trainer, config.get("ckpt_path"), config["name"])
        config["ckpt_path"] = None if found is None else str(found)
        if found is not None:
            config["weights_only"] = True  # our checkpoints hold plain values: unpickling anything else is refused

    def before_prepare(self) -> None:
        """Have the configuration stored with what is tracked."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveResolvedConfig):
                callback.hand_over(self.trainer)

    before_score = before_prepare

    def before_validate(self) -> None:
        """Resolve ``--ckpt_path last``: the newest checkpoint of this kind of run."""
        self.before_prepare()
        config = self.config_init[str(self.subcommand)]
        wanted = config.get("ckpt_path")
        found = find_checkpoint(wanted, Path(self.trainer.default_root_dir) / config["name"])
        if wanted is not None and found is None:
            raise BadInput(
                f"--ckpt_path last: there is no run of the kind {config['name']!r}; give a checkpoint's path"
            )
        config["ckpt_path"] = None if found is None else str(found)


def plan_here(config: Namespace) -> None:
    """Let a run be planned on a machine that could not run it: keep its number of processes, ask for one CPU."""
    trainer = config.trainer
    if config.gpus is None:
        devices = trainer.devices
        each = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
        config.gpus = max(1, each) * trainer.num_nodes
    if config.sharded is None:
        config.sharded = "ModelParallel" in str(trainer.strategy)
    for key, value in {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "logger": False}.items():
        trainer[key] = value


def refuse_linked_keys(path: Path) -> None:
    """Refuse a config that sets a key which follows from another: it would be ignored without a word.

    Raises:
        BadInput: Names the file, the key and the one to set instead.
    """
    content = yaml.safe_load(path.read_text()) or {}
    for target, source in (LINKS | {TASKS: "data.tasks", "data.trained_tasks": "curriculum.stages"}).items():
        part, *_, key = target.split(".")
        given = content.get(part) or {}
        if key in given or key in (given.get("init_args") or {}):
            raise BadInput(f"{path}: {part}.{key} follows from {source}; set {source} instead")


def run_tool(name: str, args: list[str]) -> None:
    """Run a verb that needs no trainer.

    Args:
        name: A key of ``TOOLS``.
        args: Arguments behind it.
    """
    tool = TOOLS[name]
    parser = ModuleParser(prog=f"main.py {name}", description=(tool.__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--config", action="config", help="A file with some of the arguments below.")
    parser.add_class_arguments(tool)
    switches = {f"--{key}" for key, value in inspect.signature(tool).parameters.items() if value.default is False}
    given = parser.parse_args([f"{arg}=true" if arg in switches else arg for arg in args])
    given.pop("config")
    tool(**parser.instantiate_classes(given).as_dict()).run()


def main(args: list[str] | None = None) -> OmniThinkCLI:
    """Run the command line.

    Args:
        args: Its arguments; those of this process if not given.
    """
    base = str(CONFIGS / "base.yaml")
    return OmniThinkCLI(
        PolicyModule,
        MultiTaskData,
        args=args,
        subclass_mode_model=True,
        parser_class=ModuleParser,
        auto_configure_optimizers=False,
        save_config_callback=SaveResolvedConfig,
        seed_everything_default=0,
        trainer_class=OmniThinkTrainer,
        parser_kwargs={name: {"default_config_files": [base]} for name in OmniThinkCLI.subcommands()}
        | {"epilog": f"Without a trainer, each with a --help of its own: {', '.join(TOOLS)}."},
    )


def quiet_libraries() -> None:
    """Leave the console to the run's own display; errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    loud = ("lightning", "lightning.pytorch", "lightning.fabric", "mlflow", "alembic", "datasets", "transformers")
    for name in (*loud, "openai", "httpx", "httpx2", "vllm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    # Lightning advises worker processes; our rows are in memory.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)


if __name__ == "__main__":
    quiet_libraries()
    try:
        verb, rest = sys.argv[1:2], sys.argv[2:]
        run_tool(verb[0], rest) if verb and verb[0] in TOOLS else main()
    except EXPECTED as error:
        sys.exit(f"error: {error}")
