"""The command line: verbs, parser, links between keys, and error messages.

``main.py`` adds the callbacks, which this package does not import.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

import datasets
import lightning as L
import torch
import transformers
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from omnithink_pl import modules, overlays
from omnithink_pl.curriculum.stages import trained_tasks
from omnithink_pl.data import MultiTaskData
from omnithink_pl.endings import no_silent_end, sigterm_raises
from omnithink_pl.errors import BadInput
from omnithink_pl.merge import Merge
from omnithink_pl.modules import PolicyModule, RejectionSampling
from omnithink_pl.redaction import guard_console
from omnithink_pl.report.verbs import PlanCurriculum, Report
from omnithink_pl.study.tool import Study
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.verbs import OmniThinkTrainer


class Tool(Protocol):
    """A verb without a trainer; the arguments of its class are those of the verb."""

    def run(self) -> None:
        """Do the work and print the result."""
        ...


# Each verb is a tool, or a method of the trainer with the arguments that the command line fills in.
VERBS: dict[str, type[Tool] | set[str]] = {
    "fit": LightningCLI.subcommands()["fit"],
    "predict": LightningCLI.subcommands()["predict"],
    "prepare": {"model", "datamodule"},
    "validate": {"model", "datamodule"},
    "score": {"model", "datamodule"},
    "budget": {"model", "datamodule"},
    "merge": Merge,
    "study": Study,
    "report": Report,
    "plan": PlanCurriculum,
}
TOOLS: dict[str, type[Tool]] = {verb: tool for verb, tool in VERBS.items() if isinstance(tool, type)}

PACKAGE = Path(__file__).parent

# The module of a run whose config names none.
MODULE = "omnithink_pl.modules.MultiTaskGRPO"

# Keys that follow from others, each with its source and the options of the link.
LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    "tracking.name": ("name", {}),
    "checkpoints.name": ("name", {}),
    "data.seed": ("seed_everything", {}),
    "model.init_args.seed": ("seed_everything", {}),
    "data.trained_tasks": ("curriculum.stages", {"compute_fn": trained_tasks}),
    "model.init_args.tasks": ("data.tasks", {"apply_on": "instantiate"}),
}

# Modules of earlier versions whose classes are named in configs.
MOVED_MODULES = {
    "omnithink_pl.benchmarks": "omnithink_pl.evaluation.suites",
    "omnithink_pl.scheduling": "omnithink_pl.curriculum.schedulers",
}


class OmniThinkParser(LightningArgumentParser):
    """A parser with short error messages.

    A class without a default must be given: otherwise jsonargparse tries null where a module refuses its settings, and
    hides the module's message.
    """

    def add_subclass_arguments(self, *args: Any, **kwargs: Any) -> Any:
        """Add a class that can be replaced by a subclass, by default ``MODULE``."""
        return super().add_subclass_arguments(*args, **({"default": {"class_path": MODULE}} | kwargs))

    def _apply_actions(  # private, but jsonargparse is pinned
        self, cfg: Any, parent_key: str = "", prev_cfg: Namespace | None = None, *args: Any, **kwargs: Any
    ) -> Namespace:
        if isinstance(cfg, dict) and not parent_key:
            prev_cfg = None if prev_cfg is None else prev_cfg.clone()  # a copy: entries that are replaced leave it
            cfg = overlays.merge(cfg, prev_cfg)
        return super()._apply_actions(cfg, parent_key, prev_cfg, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the causes of an error and the nearest key, without the usage."""
        message += nearest_key(message, [action.dest for action in self._actions])
        if not self.exit_on_error:  # a nested parser, whose message becomes part of the outer one's
            super().error(message, ex)
        self.exit(
            2,
            f"error: {readable(message)}{full_class_path(message)}\n"
            f"{self.prog.replace(' [options]', '')} --help lists what can be set\n",
        )


_UNKNOWN_KEY = re.compile(
    r"(?:Unrecognized arguments: --|Option '(?=[^']+' is not accepted)|"
    r"Group '(?P<group>[^']+)' does not accept option ')(?P<key>[\w.]+)"
)


def nearest_key(message: str, keys: Iterable[str]) -> str:
    """Return what to add to a parser's message about an unknown key: the nearest of its keys, if one is near."""
    found = _UNKNOWN_KEY.search(message)
    if not found or "did you mean" in message:
        return ""
    near = get_close_matches(".".join(filter(None, found.groups())), keys, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def full_class_path(message: str) -> str:
    """Return what to add to a message about a class name without its module: where this package has such a class."""
    found = re.search(r"Expected a dot import path string: (\w+)", message)
    for path in sorted(PACKAGE.rglob("*.py")) if found else ():
        if re.search(rf"^class {found[1]}\b", path.read_text(), re.MULTILINE):  # type: ignore[index]
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
            return f"; write {module}.{found[1]}"  # type: ignore[index]
    return ""


class OmniThinkCLI(LightningCLI):
    """Composes data, module and callbacks from configs. Subclasses say which callbacks there are."""

    callbacks: ClassVar[Mapping[str, type[L.Callback]]]  # by top-level key, in the order in which they are called
    save_config: ClassVar[type[SaveConfigCallback]]
    defaults: ClassVar[Path]  # the config that is loaded before any other

    def __init__(self, args: list[str] | None = None) -> None:
        parsers: dict[str, Any] = {verb: {"default_config_files": [str(self.defaults)]} for verb in self.subcommands()}
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
            parser_kwargs=parsers
            | {"epilog": f"Without a trainer, each with a --help of its own: {', '.join(TOOLS)}."},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs of the trainer, each with the arguments that are not the user's."""
        return {verb: filled for verb, filled in VERBS.items() if isinstance(filled, set)}

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
        if self.subcommand == "budget":
            plan_on_cpu(self.settings)
        if self.settings.torch_threads is not None:
            torch.set_num_threads(self.settings.torch_threads)

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
        except BaseException:
            for logger in self.trainer.loggers:
                if isinstance(logger, TrackingLogger):
                    logger.finalize("failed")
            raise


Command = TypeVar("Command", bound=OmniThinkCLI)


def run(command: type[Command], args: list[str] | None = None) -> Command | None:
    """Run a verb.

    Args:
        command: The command line of the verbs of the trainer.
        args: Verb and arguments; those of this process if not given.

    Returns:
        The command line, once a verb of the trainer has run.

    Raises:
        OmniThinkError: If something goes wrong that the user can correct.
    """
    given = sys.argv[1:] if args is None else args
    if given and given[0] in TOOLS:
        run_tool(given[0], given[1:])
        return None
    check_keys(given)
    with no_silent_end("main.py"):  # a class of the user's own, while it is imported or built
        return command(list(overlays.as_configs(given)))


def run_tool(verb: str, args: list[str]) -> None:
    """Run a verb that needs no trainer."""
    tool = TOOLS[verb]
    parser = OmniThinkParser(prog=f"main.py {verb}", description=(tool.__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--config", action="config", help="A file with some of the arguments below.")
    parser.add_class_arguments(tool)
    # `--overwrite` alone means `--overwrite=true`
    switches = {f"--{key}" for key, value in inspect.signature(tool).parameters.items() if value.default is False}
    given = parser.parse_args([f"{arg}=true" if arg in switches else arg for arg in args])
    given.pop("config")
    tool(**parser.instantiate_classes(given).as_dict()).run()


def plan_on_cpu(config: Namespace) -> None:
    """Let `budget` plan a run on a machine that cannot run it: note its number of processes, then ask for one CPU."""
    trainer = config.trainer
    if config.gpus is None:
        devices = trainer.devices
        each = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
        config.gpus = max(1, each) * trainer.num_nodes
    if config.sharded is None:
        config.sharded = "ModelParallel" in str(trainer.strategy)
    for key, value in {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "logger": False}.items():
        trainer[key] = value


def check_keys(args: Sequence[str]) -> None:
    """Refuse keys that follow from others, keys of earlier versions and class paths of earlier versions.

    jsonargparse would ignore the first without a word, and could not say what has become of the others.

    Args:
        args: Arguments of a verb; the files that ``--config`` names are read too.

    Raises:
        BadInput: Names the file or argument, the keys and those to set instead.
    """
    given = list(_settings(args))
    follows = {target.replace(".init_args", ""): source for target, (source, _) in LINKS.items()}
    renamed = _renamed_keys(given)
    found: dict[str, list[str]] = {}  # complaints by file or argument
    for where, key, value in given:
        complaints = found.setdefault(where, [])
        if key in follows:
            complaints.append(f"{key} follows from {follows[key]}; set {follows[key]} instead")
        if key in renamed:
            complaints.append(f"{key} is now {renamed[key]}")
        if isinstance(value, str):
            module, _, name = value.rpartition(".")
            complaints += [
                f"{value} is now {new}.{name}"
                for old, new in MOVED_MODULES.items()
                if module == old or module.startswith(f"{old}.")
            ]
    for where, complaints in found.items():
        if complaints:
            raise BadInput(f"{where}: {'; '.join(complaints)}")


def _renamed_keys(given: Iterable[tuple[str, str, object]]) -> dict[str, str]:
    """Return the keys of earlier versions that are no keys of the chosen module, with their new names."""
    chosen = [value for _, key, value in given if key in {"model", "model.class_path"} and isinstance(value, str)]
    module = getattr(modules, [MODULE, *chosen][-1].rpartition(".")[2], None)
    if module is None:  # a class of the user's own, with keys of its own
        return {}
    accepted = {f"model.{name}" for name in inspect.signature(module).parameters}
    return {old: new for old, new in modules.RENAMED_KEYS.items() if old not in accepted}


def _settings(args: Sequence[str]) -> Iterator[tuple[str, str, object]]:
    """Yield every setting: the file or argument that has it, its key without ``init_args``, its value."""
    for place, arg in enumerate(args):
        option, equals, text = arg.partition("=")
        if not equals:
            text = args[place + 1] if place + 1 < len(args) else ""
        try:
            if option in {"-c", "--config"}:
                yield from _flatten(text, "", yaml.safe_load(Path(text).read_text()))
            elif option.startswith("--"):
                key = option[2:].replace(".init_args", "")
                yield from ((option, key[: dot.start()], None) for dot in re.finditer(r"\.", key))
                yield from _flatten(option, key, yaml.safe_load(text))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue  # the parser complains about it


def _flatten(where: str, key: str, value: object) -> Iterator[tuple[str, str, object]]:
    yield where, key, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _flatten(
            where, key if name == "init_args" else f"{key}.{name}".strip(".").removesuffix(overlays.REPLACE), part
        )


_KEY = re.compile(r'Parser key "(?P<key>[^"]+)"(?P<element>[^:]*):(?P<rest>.*)')
_FRAMES = re.compile(
    r"Problem with given class_path|Does not validate against any of|Subtypes: |Errors:|Given value type: |"
    r"Expected a path but .* either not accessible or invalid|Expected a <class 'NoneType'>"
)
_GIVEN = re.compile(r"Given value: (?:NestedArg\(key='[^']*', val=(?P<nested>.*)\)|(?P<value>.*))")
_NAME = re.compile(r"<class '([^']+)'>|(?:typing|collections\.abc)\.(?=\w)")


def readable(message: str) -> str:
    """Return the causes in a message of jsonargparse 4.47, each behind its whole key.

    That message nests a block for each class on the way, names one part of the key at a time, and for an optional value
    also complains that it is not null.

    Args:
        message: Lines that are indented by their level.

    Returns:
        A line ``key: cause``; for a union type one for each of its members, with the value behind the last.
    """
    causes: list[str] = []
    keys: list[tuple[int, str]] = []  # the path to the present line: indent and part of the key
    given: list[str] = []
    for raw in filter(str.strip, message.splitlines()):
        line = raw.lstrip(" -")
        depth = len(raw) - len(line)
        keys = [(at, key) for at, key in keys if at < depth]
        if found := _KEY.match(line):
            keys.append((depth, found["key"] + found["element"]))
            line = found["rest"].strip()
        if found := _GIVEN.match(line):
            given.append(found["nested"] or found["value"])
        elif line and not _FRAMES.match(line):
            cause = _NAME.sub(lambda name: name[1] or "", line)
            causes.append(f"{'.'.join(key for _, key in keys)}: {cause}" if keys else cause)
    if len(causes) > 1 and given:
        return "\n  or ".join(causes) + f"; the value is {given[0]}"
    return "\n  ".join(causes) or message


def quiet_libraries() -> None:
    """Keep the libraries' progress bars, warnings and messages off the console, and secrets; errors are still shown."""
    guard_console()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    loud = ("lightning", "lightning.pytorch", "lightning.fabric", "mlflow", "alembic", "datasets", "transformers")
    for name in (*loud, "httpx2", "vllm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # `overlays.as_configs` rewrites them
    # Lightning recommends worker processes; our rows are in memory.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
