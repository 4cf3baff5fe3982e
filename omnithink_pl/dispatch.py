"""The verbs of the command line, and what needs none of the libraries behind them: help, configs, the first line.

PyTorch and Lightning take seconds to import; so nothing here imports them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from omnithink_pl.errors import BadInput

HELP, HELP_ALL = {"-h", "--help"}, "--help_all"


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    does: str  # in one line
    source: str = ""  # the function or class whose arguments are the verb's own
    tool: bool = False  # without a trainer: ``source`` is a class with a method ``run``


VERBS = {
    "fit": Verb("Train through the stages of a curriculum, and evaluate all tasks before, between and after them."),
    "validate": Verb("Evaluate a policy or a checkpoint on benchmarks.", "omnithink_pl.evaluation.validate.validate"),
    "predict": Verb("Sample completions, and keep the good ones for supervised fine-tuning."),
    "score": Verb("Score completions from a file with the rewards.", "omnithink_pl.evaluation.score.score"),
    "prepare": Verb("Download, curate and cache the rows of every task.", "omnithink_pl.data.prepare.prepare"),
    "budget": Verb("Print the memory per GPU and the least time of a step.", "omnithink_pl.verbs.budget"),
    "merge": Verb("Merge models that were trained separately.", "omnithink_pl.merge.tool.Merge", tool=True),
    "study": Verb("Run many configs with several seeds, and resume.", "omnithink_pl.study.tool.Study", tool=True),
    "report": Verb("Make a study's tables and figures.", "omnithink_pl.report.verbs.Report", tool=True),
    "plan": Verb("Plan a curriculum's order from single runs.", "omnithink_pl.report.verbs.PlanCurriculum", tool=True),
    "configs": Verb("List the packaged configs, copy one, or compare two: ls, cp, diff."),
}


def answer(args: Sequence[str], configs: Path) -> bool:
    """Do what needs no library, and return whether that was all.

    Args:
        args: Verb and arguments.
        configs: Folder of the packaged configs.

    Raises:
        BadInput: If there is no such verb or config.
    """
    verb = args[0] if args else "--help"
    if verb == "configs" and not HELP & set(args):
        from omnithink_pl.config_files import run

        run(args[1:], configs)
        return True
    if verb == "--version":
        from omnithink_pl import __version__

        show(__version__)
        return True
    if verb not in {*VERBS, *HELP}:
        near = get_close_matches(verb, VERBS, n=1)
        raise BadInput(
            f"{verb!r} is no verb; {f'did you mean {near[0]}' if near else 'choose from ' + ', '.join(VERBS)}"
        )
    if HELP & set(args) or not args:
        from omnithink_pl.help import help_of, overview

        show(overview() if verb in HELP else help_of(verb, configs / "base.yaml"))
        return True
    return False


def show(text: str) -> None:
    """Print a text of many lines, of which a reader such as ``head`` may want the first only."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit


def announce(args: Sequence[str]) -> None:
    """Say at once that the libraries are being loaded; not where the output is meant for a program."""
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # Lightning starts the other processes of this machine anew
    asks = any(arg.startswith("--print_config") or arg == HELP_ALL or ".help" in arg for arg in args)
    if first and not asks and not VERBS[args[0]].tool:
        say(f"{args[0]}: loading PyTorch and Lightning")


def say(what: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stdout, flush=True)


def quiet_libraries() -> None:
    """Keep the libraries' progress bars, warnings and messages off the console; errors are still shown.

    To be called before they are imported: they read their settings then.
    """
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        os.environ.setdefault(name, "true")
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    for name in ("TOKENIZERS_PARALLELISM", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"):
        os.environ.setdefault(name, "false")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    loud = ("lightning", "lightning.pytorch", "lightning.fabric", "mlflow", "alembic", "datasets", "transformers")
    for name in (*loud, "httpx2", "vllm", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # `overlays.as_configs` rewrites them
    # Lightning recommends worker processes; our rows are in memory.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
