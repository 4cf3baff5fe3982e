"""What the policy is asked: one Jinja template a file, whose name ends in its version.

Another wording is another file, never a change of an old one: scores under different prompts are not comparable.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from jinja2 import Template


def render(name: str, **fields: object) -> str:
    """Fill in a template.

    Args:
        name: Of a packaged template without its suffix, such as ``math_v1``; or the path of any other file.
        fields: What the template names, such as ``question``.

    Raises:
        BadInput: If there is no such template, or it names a field that there is not.
    """
    from jinja2 import UndefinedError

    try:
        return _template(name).render(fields)
    except UndefinedError as error:
        raise BadInput(f"prompt {name!r}: {error}; it can name {', '.join(fields) or 'no field'}") from error


@lru_cache(maxsize=32)
def _template(name: str) -> Template:
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import SandboxedEnvironment

    packaged = files(__name__)
    source = packaged / f"{name}.jinja"
    if not source.is_file():
        source = Path(name).expanduser()
    if not source.is_file():
        known = sorted(file.name.removesuffix(".jinja") for file in packaged.iterdir() if file.name.endswith(".jinja"))
        raise BadInput(f"no prompt {name!r} in the package and no such file; use one of {', '.join(known)}, or a path")
    environment = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    try:
        return environment.from_string(source.read_text(encoding="utf-8"))
    except TemplateSyntaxError as error:
        raise BadInput(f"prompt {name!r}, line {error.lineno}: {error.message}") from error
