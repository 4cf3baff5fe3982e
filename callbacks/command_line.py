"""The command line of the trainer's verbs with the callbacks of this project."""

from __future__ import annotations

from pathlib import Path

from omnithink_pl.cli import OmniThinkCLI
from omnithink_pl.errors import BadInput

from . import CALLBACKS, CurriculumProgress, SaveResolvedConfig, find_checkpoint, prepare_resume
from .lookups import find_callback


class CommandLine(OmniThinkCLI):
    """Resumes runs, and stores configurations for verbs whose hooks Lightning does not call."""

    callbacks = CALLBACKS
    save_config = SaveResolvedConfig

    def before_fit(self) -> None:
        """Resolve ``--ckpt_path``, and continue the run that wrote the checkpoint."""
        found = prepare_resume(self.trainer, self.settings.get("ckpt_path"), self.settings["name"])
        self.settings["ckpt_path"] = None if found is None else str(found)
        if found is not None:
            self.settings["weights_only"] = True  # our checkpoints hold plain values; refuse to unpickle anything else
        progress = find_callback(self.trainer, CurriculumProgress)
        if progress is not None and self.trainer.is_global_zero:
            progress.say(f"reading the rows of {', '.join(self.datamodule.tasks)}")

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
