"""Verbs without a trainer; their classes are imported only when they are called."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from omnithink_pl.endings import sigterm_raises
from omnithink_pl.parser import OverlayParser
from omnithink_pl.verb_table import HELP_ALL, VERBS


class Tool(Protocol):
    """A verb without a trainer; the arguments of its class are those of the verb."""

    def run(self) -> None:
        """Do the work and print the result."""
        ...


def run_tool(verb: str, args: Sequence[str], defaults: Path) -> None:
    """Run a verb that needs no trainer.

    Args:
        verb: One of ``VERBS``.
        args: Its arguments.
        defaults: The config that every run reads first, for a tool that starts runs.

    Raises:
        OmniThinkError: If something goes wrong that the user can correct.
    """
    module, _, name = VERBS[verb].source.rpartition(".")
    tool: type[Tool] = getattr(importlib.import_module(module), name)
    filled = {"defaults": defaults} if "defaults" in inspect.signature(tool).parameters else {}
    parser = OverlayParser(prog=f"main.py {verb}", description=(tool.__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--config", action="config", help="A file with some of the arguments below.")
    parser.add_class_arguments(tool, skip=set(filled))
    # `--overwrite` alone means `--overwrite=true`
    switches = {f"--{key}" for key, value in inspect.signature(tool).parameters.items() if value.default is False}
    args = ["--help" if arg == HELP_ALL else f"{arg}=true" if arg in switches else arg for arg in args]
    given = parser.parse_args(args)
    given.pop("config")
    with sigterm_raises():  # or what is written would stay half there
        tool(**parser.instantiate_classes(given).as_dict(), **filled).run()
