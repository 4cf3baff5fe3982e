"""Help on the verbs, read from the source and from ``configs/base.yaml``: nothing is imported, so it costs no time.

``--help_all`` has the parser's own list of every key, those of Lightning's Trainer too.
"""

from __future__ import annotations

import ast
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from docstring_parser import parse

from omnithink_pl.verb_table import HELP_ALL, VERBS

PACKAGE = Path(__file__).parent
_FILLED_IN = {"self", "trainer", "model", "datamodule"}  # by the command line

_COMMON = f"""\
  --config FILE       changes what it names of the configs before it; `main.py configs ls` lists examples
  --KEY=VALUE         changes one key: --model.kl.beta.math=0, --curriculum.stages.0.steps=10
  --KEY.help=CLASS    arguments of a class: --model.help=omnithink_pl.modules.MultiTaskGRPO
  --print_config      prints what all of it comes to, and exits
  {HELP_ALL}          lists every key with its type, those of Lightning's Trainer too"""

_RESUME = """\
  --ckpt_path=last    continues the newest run of this name; or give the path of a checkpoint
"""


def overview() -> str:
    """Return the list of the verbs."""
    verbs = "\n".join(f"  {name:<10}{verb.does}" for name, verb in VERBS.items())
    return f"""\
usage: main.py VERB [--config FILE]... [--KEY=VALUE]...

{verbs}

`main.py VERB --help` lists what can be set. A first run, of some minutes on a CPU:
  main.py fit --config configs/curriculum.yaml"""


def help_of(verb: str, base: Path) -> str:
    """Return the help of a verb.

    Args:
        verb: One of ``VERBS``.
        base: The config with every default, explained.
    """
    chosen = VERBS[verb]
    if verb == "configs":
        return f"usage: main.py configs ls [PART] | cp CONFIG FILE | diff CONFIG CONFIG\n\n{chosen.does}"
    parts = [f"usage: main.py {verb} [--config FILE]... [--KEY=VALUE]...", chosen.does]
    if not chosen.tool:
        parts.append((_RESUME if verb in {"fit", "validate"} else "") + _COMMON)
    if chosen.source:
        parts.append("\n".join(_arguments(chosen.source)))
    if not chosen.tool:
        keys = textwrap.indent(base.read_text(encoding="utf-8"), "  ")
        parts.append(f"Keys and defaults ({base.parent.name}/{base.name}):\n\n{keys}")
    return "\n\n".join(parts)


def _arguments(source: str) -> Iterator[str]:
    """Yield the arguments of a function or class: name, type, default and what its docstring says of it."""
    found = _definition(source)
    said = {param.arg_name: param.description or "" for param in parse(ast.get_docstring(found) or "").params}
    width = min(shutil.get_terminal_size().columns, 100)
    for name, kind, default in _signature(found):
        if name not in _FILLED_IN:
            needed = "required" if default is None else f"default {ast.unparse(default).replace('None', 'null')}"
            yield f"  --{name} {ast.unparse(kind) if kind else ''} ({needed})"
            text = " ".join(said.get(name, "").split())
            yield textwrap.fill(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _definition(source: str) -> ast.FunctionDef | ast.ClassDef:
    module, _, name = source.rpartition(".")
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name)


def _signature(found: ast.FunctionDef | ast.ClassDef) -> list[tuple[str, ast.expr | None, ast.expr | None]]:
    """Return names, types and defaults of a function, of a class's constructor, or of a dataclass's fields."""
    if isinstance(found, ast.ClassDef):
        made = next((one for one in found.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
        if made is None:
            fields = [one for one in found.body if isinstance(one, ast.AnnAssign)]
            return [(ast.unparse(one.target), one.annotation, one.value) for one in fields]
        found = made
    taken = found.args.args
    defaults = [None] * (len(taken) - len(found.args.defaults)) + found.args.defaults
    return [(one.arg, one.annotation, default) for one, default in zip(taken, defaults, strict=True)]
