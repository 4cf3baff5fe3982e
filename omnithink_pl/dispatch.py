"""What needs none of the libraries behind a verb: help, configs, the first line.

PyTorch and Lightning take seconds to import; so nothing here imports them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from omnithink_pl.errors import BadInput
from omnithink_pl.redaction import guard_console
from omnithink_pl.verb_table import HELP, HELP_ALL, VERBS, show


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
    """Keep the libraries' progress bars, warnings and messages off the console, and secrets; errors are still shown.

    To be called before they are imported: they read their settings then.
    """
    guard_console()
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        os.environ.setdefault(name, "true")
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    for name in ("TOKENIZERS_PARALLELISM", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"):
        os.environ.setdefault(name, "false")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # `overlays.as_configs` rewrites them
    # Lightning recommends worker processes; our rows are in memory.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)


def quiet_loggers() -> None:
    """Show only the errors of the libraries' loggers; called once they are imported: Lightning sets its own."""
    loud = ("lightning", "lightning.pytorch", "lightning.fabric", "mlflow", "alembic", "datasets", "transformers")
    for name in (*loud, "httpx2", "vllm", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
