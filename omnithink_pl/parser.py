"""jsonargparse's parser with the merging of ``overlays``, and error messages of two lines that name key and cure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._actions import _ActionConfigLoad
from jsonargparse._common import parser_context

from omnithink_pl import overlays
from omnithink_pl.messages import accepted, class_path, cured, name_entry, readable, unknown_key, without_tensors
from omnithink_pl.verb_table import VERBS


class OverlayParser(ArgumentParser):
    """A parser whose configs keep what they do not name, and whose errors are short.

    Attributes:
        given: Keys that the user set, for messages.
    """

    given: Sequence[str] = ()

    def _apply_actions(  # private, but jsonargparse is pinned
        self, cfg: Any, parent_key: str = "", prev_cfg: Namespace | None = None, *args: Any, **kwargs: Any
    ) -> Namespace:
        if isinstance(cfg, dict) and not parent_key:
            prev_cfg = None if prev_cfg is None else prev_cfg.clone()  # a copy: entries that are replaced leave it
            overlays.forget_defaults(cfg, prev_cfg)
            cfg = overlays.merge(cfg, prev_cfg)
        return super()._apply_actions(cfg, parent_key, prev_cfg, *args, **kwargs)

    def _check_value_key(  # private
        self, action: Any, value: Any, key: str, cfg: Namespace | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Refuse null where a type has none, which jsonargparse lets pass: it would end in a traceback.

        A file that another one names, such as ``data: data.yaml``, replaces classes as any config does.
        """
        if value is not None or action.default is None:
            checked = super()._check_value_key(action, value, key, cfg, *args, **kwargs)
            if isinstance(action, _ActionConfigLoad) and isinstance(value, str) and cfg is not None:
                overlays.forget_defaults(checked, cfg.get(key))  # by which jsonargparse completes it
            return checked
        if isinstance(action, _ActionConfigLoad):
            raise TypeError(f'Parser key "{key}":\nUnable to load config')
        with parser_context(lenient_check=False):
            return super()._check_value_key(action, value, key, cfg, *args, **kwargs)

    def dump(self, cfg: Any, *args: Any, **kwargs: Any) -> str:
        """Return a config as text; what it has removed of the defaults is null, so that the text is the same run."""
        if self.default_config_files and isinstance(cfg, Namespace):
            cfg = overlays.with_removed(cfg, self.get_defaults(skip_validation=True))
        return str(super().dump(cfg, *args, **kwargs))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the causes of an error and what was probably meant, without the usage."""
        if not self.exit_on_error:  # a nested parser, whose message becomes part of the outer one's
            names = [action.dest for action in self._actions if not action.dest.endswith("help")]
            super().error(message + (unknown_key(message, names) or accepted(message, names)), ex)
        message = without_tensors(message)
        meant = unknown_key(message, _keys(self)) + class_path(message)
        self.exit(
            2,
            f"error: {cured(name_entry(readable(message), self.given), VERBS)}{meant}\n"
            f"{self.prog.replace(' [options]', '')} --help lists what can be set\n",
        )


def _keys(parser: ArgumentParser) -> list[str]:
    """Return all keys of a parser, with those of the classes that are its defaults, without ``init_args``."""
    leaves = [*parser.get_defaults(skip_validation=True).keys(), *(action.dest for action in parser._actions)]
    names = {leaf.replace(".init_args", "") for leaf in leaves}
    return sorted({name[:end] for name in names for end in (*(dot.start() for dot in re.finditer(r"\.", name)), None)})
