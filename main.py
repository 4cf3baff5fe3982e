"""Omni-Think on Lightning: the command line.

python main.py --help
python main.py fit --config configs/curriculum.yaml
python main.py fit --config configs/curriculum.yaml --ckpt_path last
python main.py predict --config configs/sft_data.yaml
python main.py fit --config configs/sft.yaml
python main.py budget --config configs/scale/lora.yaml
python main.py study --config configs/studies/paper.yaml
python main.py configs ls

Once installed, it is the command ``omnithink``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.config_files import with_paths
from omnithink_pl.dispatch import announce, answer, quiet_libraries, quiet_loggers
from omnithink_pl.errors import OmniThinkError
from omnithink_pl.verb_table import VERBS

if TYPE_CHECKING:
    from callbacks.command_line import CommandLine

CONFIGS = Path(__file__).parent.resolve() / "configs"


def main(args: list[str] | None = None) -> CommandLine | None:
    """Run the command line. The libraries behind a verb are imported once it is known that it needs them.

    Args:
        args: Its arguments; those of this process if not given.

    Returns:
        The command line, once a verb of the trainer has run; ``None`` for the other verbs.

    Raises:
        OmniThinkError: If something goes wrong that the user can correct.
    """
    given = sys.argv[1:] if args is None else args
    return None if answer(given, CONFIGS) else load_verb(given)()


def load_verb(args: list[str]) -> Callable[[], CommandLine | None]:
    """Import what a verb needs, and return the function that runs it."""
    args = with_paths(args, CONFIGS)
    if VERBS[args[0]].tool:
        from omnithink_pl.tools import run_tool

        return partial(run_tool, args[0], args[1:], CONFIGS / "base.yaml")
    from omnithink_pl.cli import run

    if TYPE_CHECKING or not __package__:
        from callbacks.command_line import CommandLine
    else:  # installed, as the package omnithink: see setup.py
        from .callbacks.command_line import CommandLine

    return partial(run, CommandLine, args, CONFIGS / "base.yaml")


def command() -> None:
    """Run the command line of this process: say at once what it does, and errors of the user's in one line."""
    args = sys.argv[1:]
    try:
        if not answer(args, CONFIGS):
            announce(args)
            quiet_libraries()
            verb = load_verb(args)
            quiet_loggers()
            verb()
    except OmniThinkError as error:
        sys.exit(f"error: {error}")
    except SystemExit as ended:
        from omnithink_pl.endings import exit_code

        sys.exit(exit_code(ended))


if __name__ == "__main__":
    command()
