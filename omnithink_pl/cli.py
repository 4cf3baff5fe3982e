"""The command line: verbs, parser, links between keys, and error messages.

``main.py`` adds the callbacks, which this package does not import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import lightning as L
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from omnithink_pl import overlays
from omnithink_pl.curriculum.stages import trained_tasks
from omnithink_pl.data import MultiTaskData
from omnithink_pl.endings import no_silent_end, sigterm_raises
from omnithink_pl.errors import BadInput
from omnithink_pl.given import read_settings
from omnithink_pl.model.policy import find_policy
from omnithink_pl.modules import PolicyModule, RejectionSampling
from omnithink_pl.parser import OverlayParser
from omnithink_pl.refusals import MODULE, check_effect, check_settings
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.verb_table import HELP_ALL
from omnithink_pl.verbs import OmniThinkTrainer

# The verbs of the trainer, each with the arguments of its method that the command line fills in.
VERBS = {verb: LightningCLI.subcommands()[verb] for verb in ("fit", "predict")} | {
    verb: {"model", "datamodule"} for verb in ("prepare", "validate", "score", "budget")
}

# How Lightning's loggers say that their package is missing.
_MISSING = re.compile(r"Requirement '([\w-]+)[^']*' not met|Neither `([\w-]+)` nor `\w+` is available")

# Keys that follow from others, each with its source and the options of the link.
LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    "tracking.name": ("name", {}),
    "checkpoints.name": ("name", {}),
    "data.seed": ("seed_everything", {}),
    "model.init_args.seed": ("seed_everything", {}),
    "data.trained_tasks": ("curriculum.stages", {"compute_fn": trained_tasks}),
    "model.init_args.tasks": ("data.tasks", {"apply_on": "instantiate"}),
}


class OmniThinkParser(OverlayParser, LightningArgumentParser):
    """The parser of a verb of the trainer.

    A class without a default must be given: otherwise jsonargparse tries null where a module refuses its settings, and
    hides the module's message.
    """

    def add_subclass_arguments(self, *args: Any, **kwargs: Any) -> Any:
        """Add a class that can be replaced by a subclass, by default ``MODULE``."""
        return super().add_subclass_arguments(*args, **({"default": {"class_path": MODULE}} | kwargs))


class OmniThinkCLI(LightningCLI):
    """Composes data, module and callbacks from configs. Subclasses say which callbacks there are."""

    callbacks: ClassVar[Mapping[str, type[L.Callback]]]  # by top-level key, in the order in which they are called
    save_config: ClassVar[type[SaveConfigCallback]]

    def __init__(self, args: list[str], defaults: Path) -> None:
        self.verb = args[0]
        self.given = [one.key for one in read_settings(args)]
        self.left_out: set[str] = set()  # keys of callbacks that this run does without
        super().__init__(
            PolicyModule,
            MultiTaskData,
            args=args,
            subclass_mode_model=True,
            parser_class=OmniThinkParser,
            auto_configure_optimizers=False,
            save_config_callback=self.save_config,
            seed_everything_default=0,
            trainer_class=OmniThinkTrainer,
            parser_kwargs={self.verb: {"default_config_files": [str(defaults)]}},
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the verb with the arguments that are not the user's; a parser of all verbs would take seconds."""
        return {self.verb: VERBS[self.verb]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Build the parser, which knows for its messages what was given."""
        parser = super().init_parser(**kwargs)
        assert isinstance(parser, OmniThinkParser)
        parser.given = self.given
        return parser

    def _set_seed(self) -> None:  # private
        """Set the seed; a number that is none is the user's to mend."""
        try:
            super()._set_seed()
        except ValueError as error:
            raise BadInput(f"seed_everything: {error}") from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks, each under its own key, and the links between keys."""
        parser.add_argument("--name", type=str, default="run", help="Kind of run; names its runs and its outputs.")
        parser.add_argument("--torch_threads", type=int | None, default=None, help="CPU threads; null: torch's choice.")
        for key, callback in self.callbacks.items():
            parser.add_lightning_class_args(callback, key)
        for target, (source, options) in LINKS.items():
            parser.link_arguments(source, target, **options)

    @property
    def settings(self) -> Namespace:
        """The configuration of the verb, with classes instantiated once they are."""
        return getattr(self, "config_init", self.config)[str(self.subcommand)]

    def before_instantiate_classes(self) -> None:
        """Adapt the trainer to the verb; set the number of threads before anything starts its own."""
        config = self.settings
        if not config.name:
            raise BadInput("name is empty; it names runs and their folder, such as --name=mine")
        if config.torch_threads is not None and config.torch_threads < 1:
            raise BadInput(f"torch_threads is {config.torch_threads}; use 1 or more, or null for torch's choice")
        if self.subcommand == "fit" and config.trainer.fast_dev_run:
            self.left_out = shorten(config)
        if config.trainer.enable_progress_bar is False:  # with which Lightning refuses ours
            self.left_out = {*self.left_out, "progress"}
        if self.subcommand == "budget":
            plan_on_cpu(config)
        policy = config.model.init_args.get("policy")  # a module of the user's own may have none
        if policy is not None and self.subcommand != "score" and not config.get("completions"):
            find_policy(policy)  # before rows are read and processes started
        if config.torch_threads is not None:
            torch.set_num_threads(config.torch_threads)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:  # private
        """Build the trainer; what it says of its options is for the user."""
        left_out = tuple(self.callbacks[key] for key in self.left_out)
        try:
            return super()._instantiate_trainer(config, [one for one in callbacks if not isinstance(one, left_out)])
        except (MisconfigurationException, ValueError, ModuleNotFoundError) as error:
            first = str(error).strip().partition("\n")[0]
            raise BadInput(f"trainer: {first}") from error

    def instantiate_classes(self) -> None:
        """Instantiate, and say in one line which package a logger lacks."""
        try:
            super().instantiate_classes()
            check = getattr(self.model.engine, "check_installed", None)
            if check is not None and self.subcommand in {"fit", "predict", "validate"}:
                check()
        except BadInput:  # a ValueError, too: of the trainer's accelerator, for one
            raise
        except (ModuleNotFoundError, ValueError) as error:  # jsonargparse makes the first the second
            found = _MISSING.search(str(error))
            if found is None:
                raise
            package = found[1] or found[2]
            raise BadInput(f"trainer.logger: this logger needs the package {package}: pip install {package}") from error

    def before_predict(self) -> None:
        """Refuse a module that trains: Lightning's own message would name no key."""
        if not isinstance(self.model, RejectionSampling):
            raise BadInput(
                f"model.class_path: predict samples with omnithink_pl.modules.RejectionSampling, not with "
                f"{type(self.model).__name__}; see configs/sft_data.yaml"
            )

    def _run_subcommand(self, subcommand: str) -> None:  # private; the verb itself cannot be wrapped: it is parsed
        """Run a verb of the trainer; a tracked run that it leaves open is closed as failed, or as killed."""
        try:
            with no_silent_end(subcommand), sigterm_raises():
                super()._run_subcommand(subcommand)
        except MisconfigurationException as error:  # Lightning's, of an option of its trainer
            raise BadInput(f"trainer: {error}") from error
        except BaseException:
            for logger in self.trainer.loggers:
                if isinstance(logger, TrackingLogger):
                    logger.finalize("failed")
            raise


Command = TypeVar("Command", bound=OmniThinkCLI)


def run(command: type[Command], args: Sequence[str], defaults: Path) -> Command:
    """Run a verb of the trainer.

    Args:
        command: The command line of these verbs.
        args: Verb and arguments.
        defaults: The config that is loaded before any other.

    Returns:
        The command line, once the verb has run.

    Raises:
        OmniThinkError: If something goes wrong that the user can correct.
    """
    follows = {target.replace(".init_args", ""): source for target, (source, _) in LINKS.items()}
    tasks = yaml.safe_load(defaults.read_text(encoding="utf-8"))["data"]["tasks"]
    check_settings(list(read_settings(args)), follows, tasks)
    check_effect(args[0], args, command.callbacks)
    given = ["--help" if arg == HELP_ALL else arg for arg in args]
    with no_silent_end("main.py"):  # a class of the user's own, while it is imported or built
        return command(list(overlays.as_configs(given)), defaults)


def shorten(config: Namespace) -> set[str]:
    """Honour `trainer.fast_dev_run`: so many steps of every stage, few held-out prompts, nothing kept.

    Lightning's own would end the run within the first stage.

    Returns:
        Keys of the callbacks to leave out.
    """
    if config.ckpt_path is not None:
        raise BadInput("trainer.fast_dev_run keeps nothing of a run, so it resumes none; leave out --ckpt_path")
    steps = int(config.trainer.fast_dev_run)
    for stage in config.curriculum.stages:
        stage.steps = min(steps, stage.steps or steps)
    evaluator = config.evaluation.evaluator.init_args
    evaluator.prompts, evaluator.samples = min(4, evaluator.prompts or 4), 1
    config.validation.every_n_steps = config.validation.patience = None
    config.validation.continue_from = "last"
    config.trainer.fast_dev_run = config.trainer.logger = False
    return {"checkpoints"}


def plan_on_cpu(config: Namespace) -> None:
    """Let `budget` plan a run on a machine that cannot run it: note its number of processes, then ask for one CPU."""
    trainer = config.trainer
    if config.gpus is None:
        devices = trainer.devices
        each = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
        config.gpus = max(1, each) * trainer.num_nodes
    if config.sharded is None:
        config.sharded = "FSDP2" in str(trainer.strategy)
    for key, value in {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "logger": False}.items():
        trainer[key] = value
