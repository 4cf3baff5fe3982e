"""Keeps one checkpoint that a run can always be continued from, and saves the trained policy."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from safetensors import SafetensorError

from callbacks.lookups import data_of, module_of
from omnithink_pl.curriculum.stages import boundaries
from omnithink_pl.errors import BadInput, OmniThinkError
from omnithink_pl.model.policy import save_policy
from omnithink_pl.modules import PolicyModule

log = logging.getLogger(__name__)


class CheckpointError(OmniThinkError):
    """A checkpoint could not be written."""


class Checkpoints(L.Callback):
    """Writes ``last.ckpt`` every few steps, at stage boundaries, and when a run is interrupted.

    Lightning's ModelCheckpoint counts optimiser steps, has no notion of a stage, and would save a
    half-updated policy when interrupted. Here a checkpoint always lies between two steps: Ctrl-C lets
    the step in flight finish, unless it waits for rewards, and an error inside an update leaves the
    previous checkpoint alone. Several processes finish the step, also where only one got the signal.

    Args:
        name: Kind of run; its checkpoints lie in ``<default_root_dir>/<name>/<folder>/``.
        every_n_steps: Steps between checkpoints.
        save_policy: Save the final policy in Hugging Face format, in ``policy`` beside the checkpoint.
        folder: The folder of this run; the time if not given.
    """

    def __init__(
        self, name: str = "run", every_n_steps: int = 10, save_policy: bool = True, folder: str | None = None
    ) -> None:
        if every_n_steps < 1:
            raise BadInput(f"checkpoints.every_n_steps is {every_n_steps}; use 1 or more")
        self.name = name
        self.every_n_steps = every_n_steps
        self.save_policy = save_policy
        self.folder = folder
        self.directory: Path | None = None
        self._resumed = False
        self._started = False
        self._in_step = False
        self._interrupted = False
        self._several = False
        self._module: PolicyModule | None = None
        self._previous_handler: Any = None

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        if self.directory is None:
            raise RuntimeError("the run's directory is known only once setup has run")
        return self.directory / "last.ckpt"

    @property
    def policy_path(self) -> Path:
        """Where the trained policy is saved."""
        return self.path.parent / "policy"

    def resume(self, checkpoint: Path) -> None:
        """Go on beside a checkpoint instead of in a new folder."""
        self.directory = checkpoint.parent
        self._resumed = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the run's folder, unless it is resumed in its own, and listen for Ctrl-C."""
        if stage != "fit":
            return
        if self.directory is None:
            folder = self.folder or trainer.strategy.broadcast(time.strftime("%Y%m%d-%H%M%S"))
            self.directory = Path(trainer.default_root_dir) / self.name / folder
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(_advice(self.directory, error)) from error
        self._module = module_of(trainer)
        self._several = trainer.world_size > 1
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_sigint)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save at once, so that a run which ends in its first evaluation is continued, not started anew."""
        self._started = True
        if self._several and threading.current_thread() is threading.main_thread():
            # Lightning's own handler, which it takes away when the run ends, would tell the other processes at once,
            # in the midst of whatever they all take part in.
            signal.signal(signal.SIGTERM, self._on_sigterm)
        if not self._resumed:
            self._save(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Save an evaluation that came before a stage, then begin the step."""
        if module_of(trainer).steps_done in boundaries(data_of(trainer).stages):
            self._save(trainer)
        self._in_step = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Save every few steps and at the end of a stage; give way to a Ctrl-C that came meanwhile."""
        self._in_step = False
        module = module_of(trainer)
        # One process may have heard of it a step before the others.
        done, self._interrupted = module.steps_done, module.peers.meet(self._interrupted)
        if self._interrupted or done % self.every_n_steps == 0 or done in boundaries(data_of(trainer).stages):
            self._save(trainer)
        if self._interrupted:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last evaluation with the last weights."""
        self._save(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the trained policy, ready for ``from_pretrained``; all processes have a part of it."""
        if self.save_policy:
            write_policy(trainer, self.policy_path)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what is known, unless an update was cut in two or writing was what failed.

        With several processes, where all of them stand between the same two steps: all must take part in saving.
        Otherwise the last checkpoint is intact, and this process ends, which ends the others.
        """
        module = module_of(trainer)
        if not self._started or isinstance(exception, CheckpointError):
            return
        if module.peers.agree():
            self._save(trainer)
            log.info("Saved %s; continue with --ckpt_path last", self.path)
        else:
            log.warning(
                "Nothing more was saved: an update was under way, or the processes had got to different points. The "
                "checkpoint from before is intact; continue with --ckpt_path last"
            )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        # While rewards are awaited nothing has changed yet: a slow judge need not be waited for.
        waiting = self._module is not None and self._module.watch.phase == "reward"
        # Several processes stop together, at the end of a step: one alone would leave the others waiting for it.
        if self._interrupted or ((not self._in_step or waiting) and not self._several):
            raise KeyboardInterrupt
        self._interrupted = True
        log.info("Ctrl-C: finishing this step, then saving. Press again to stop at once.")

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        # Whoever does not want to wait sends SIGKILL.
        self._interrupted = True
        log.info("SIGTERM: finishing this step in all processes, then saving")

    def _save(self, trainer: L.Trainer) -> None:
        module = module_of(trainer)
        if module.device_mesh is not None and module.steps_done == 0:
            return  # Lightning cannot load an optimiser without state into a sharded model
        try:
            trainer.save_checkpoint(self.path)
        except OSError as error:
            raise CheckpointError(_advice(self.path, error)) from error


def write_policy(trainer: L.Trainer, path: Path) -> None:
    """Save the policy as it is, ready for ``from_pretrained``; all processes call it.

    Raises:
        CheckpointError: If it cannot be written.
    """
    try:
        save_policy(module_of(trainer).policy, path, here=trainer.is_global_zero)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_advice(path, error)) from error


def _advice(path: Path, error: Exception) -> str:
    return (
        f"cannot write {path}: {error}. Free space or make it writable, or choose another "
        f"place with --trainer.default_root_dir; then continue with --ckpt_path last"
    )
