"""jsonargparse's parser with the merging of ``overlays``, and error messages of two lines that name key and cure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._link_arguments import ActionLink  # private, but jsonargparse is pinned

from omnithink_pl import overlays
from omnithink_pl.messages import class_path, name_entry, readable, unknown_key


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
            cfg = overlays.merge(cfg, prev_cfg)
        return super()._apply_actions(cfg, parent_key, prev_cfg, *args, **kwargs)

    def _dump_cleanup_actions(
        self, cfg: Namespace, actions: Any, dump_kwargs: dict[str, Any], prefix: str = ""
    ) -> None:  # private, too: what is printed and stored with a run is read again over the same defaults
        super()._dump_cleanup_actions(cfg, actions, dump_kwargs, prefix)  # type: ignore[no-untyped-call]
        if prefix or dump_kwargs["skip_none"] or not self.default_config_files:
            return
        defaults = self.get_defaults(skip_validation=True)
        ActionLink.strip_link_target_keys(self, defaults)  # type: ignore[no-untyped-call]
        super()._dump_cleanup_actions(defaults, actions, dump_kwargs)  # type: ignore[no-untyped-call]
        written = overlays.keep_removed(cfg.as_dict(), defaults.as_dict())
        vars(cfg).clear()
        vars(cfg).update(written)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the causes of an error and what was probably meant, without the usage."""
        if not self.exit_on_error:  # a nested parser, whose message becomes part of the outer one's
            super().error(message + unknown_key(message, (action.dest for action in self._actions)), ex)
        meant = unknown_key(message, _keys(self)) + class_path(message)
        self.exit(
            2,
            f"error: {name_entry(readable(message), self.given)}{meant}\n"
            f"{self.prog.replace(' [options]', '')} --help lists what can be set\n",
        )


def _keys(parser: ArgumentParser) -> list[str]:
    """Return all keys of a parser, with those of the classes that are its defaults, without ``init_args``."""
    leaves = [*parser.get_defaults(skip_validation=True).keys(), *(action.dest for action in parser._actions)]
    names = {leaf.replace(".init_args", "") for leaf in leaves}
    return sorted({name[:end] for name in names for end in (*(dot.start() for dot in re.finditer(r"\.", name)), None)})
