"""Omni-Think on Lightning: the command line.

python main.py fit --config configs/curriculum.yaml
python main.py fit --config configs/curriculum.yaml --ckpt_path last
python main.py predict --config configs/sft_data.yaml
python main.py fit --config configs/sft.yaml
python main.py budget --config configs/scale/lora.yaml
python main.py study --config configs/studies/paper.yaml
python main.py fit --help

Once installed, it is the command ``omnithink``.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.utilities.exceptions import SIGTERMException

from omnithink_pl.cli import OmniThinkCLI, quiet_libraries, run
from omnithink_pl.errors import BadInput, OmniThinkError

if TYPE_CHECKING or not __package__:
    from callbacks import CALLBACKS, SaveResolvedConfig, find_checkpoint, prepare_resume
else:  # installed, as the package omnithink: see setup.py
    from .callbacks import CALLBACKS, SaveResolvedConfig, find_checkpoint, prepare_resume

CONFIGS = Path(__file__).parent.resolve() / "configs"


class CommandLine(OmniThinkCLI):
    """The command line with the callbacks of this project."""

    callbacks = CALLBACKS
    save_config = SaveResolvedConfig
    defaults = CONFIGS / "base.yaml"

    def before_fit(self) -> None:
        """Resolve ``--ckpt_path``, and continue the run that wrote the checkpoint."""
        found = prepare_resume(self.trainer, self.settings.get("ckpt_path"), self.settings["name"])
        self.settings["ckpt_path"] = None if found is None else str(found)
        if found is not None:
            self.settings["weights_only"] = True  # our checkpoints hold plain values; refuse to unpickle anything else

    def before_prepare(self) -> None:
        """Store the configuration with what is tracked: Lightning calls no callbacks for this verb."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveResolvedConfig):
                callback.hand_over(self.trainer)

    before_score = before_prepare

    def before_validate(self) -> None:
        """Resolve ``--ckpt_path last``: the newest checkpoint of this kind of run."""
        self.before_prepare()
        name, wanted = self.settings["name"], self.settings.get("ckpt_path")
        found = find_checkpoint(wanted, Path(self.trainer.default_root_dir) / name)
        if wanted is not None and found is None:
            raise BadInput(f"--ckpt_path last: there is no run of the kind {name!r}; give a checkpoint's path")
        self.settings["ckpt_path"] = None if found is None else str(found)


def main(args: list[str] | None = None) -> CommandLine | None:
    """Run the command line.

    Args:
        args: Its arguments; those of this process if not given.

    Returns:
        The command line, once a verb of the trainer has run; ``None`` for the other verbs.
    """
    return run(CommandLine, args)


def command() -> None:
    """Run the command line of this process; what the user can mend is one line."""
    quiet_libraries()
    try:
        main()
    except OmniThinkError as error:
        sys.exit(f"error: {error}")
    except SIGTERMException:  # whose own exit code is 0, which a scheduler would take for success
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    command()
