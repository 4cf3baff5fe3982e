"""Keeps one checkpoint from which a run can always be resumed, and saves the trained policy."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors import SafetensorError

from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.errors import BadInput, OmniThinkError, TrainingDiverged
from omnithink_pl.exclusive import make_folder
from omnithink_pl.model.policy import save_policy
from omnithink_pl.model.sharded_checkpoint import StreamedCheckpointIO
from omnithink_pl.modules import PolicyModule

from .lookups import StageCallback, module_of

log = logging.getLogger(__name__)
_LAST = "last.ckpt"


class CheckpointError(OmniThinkError):
    """A checkpoint could not be written."""


class Checkpoints(StageCallback):
    """Writes ``last.ckpt`` every few steps, before and after each evaluation, and when a run is interrupted.

    Lightning's ModelCheckpoint counts optimiser steps, has no notion of a stage, and would save a half-updated policy
    when interrupted. Here a checkpoint always lies between two steps: Ctrl-C and SIGTERM let the step in flight finish,
    unless it waits for rewards, and an error inside an update leaves the previous checkpoint alone. So does a policy
    that computes NaN: the last checkpoint is one that can be trained on. Several processes finish the step together,
    also where only one got the signal.

    Args:
        name: Kind of run; its checkpoints lie in ``<default_root_dir>/<name>/<folder>/``.
        every_n_steps: Steps between checkpoints.
        save_policy: Save the final policy in Hugging Face format, in ``policy`` beside the checkpoint.
        folder: The folder of this run, which must have no checkpoint yet; if not given, a new one, named by the time.
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
        self._ending: type[BaseException] = KeyboardInterrupt  # what ends an interrupted run
        self._several = False  # processes
        self._run: StageRun
        self._module: PolicyModule | None = None
        self._previous_handler: Any = None

    @property
    def path(self) -> Path:
        """Path of the checkpoint."""
        if self.directory is None:
            raise RuntimeError("the run's directory is known only once setup has run")
        return self.directory / _LAST

    @property
    def policy_path(self) -> Path:
        """Folder of the trained policy."""
        return self.path.parent / "policy"

    def resume(self, checkpoint: Path) -> None:
        """Use the folder of a checkpoint instead of a new one."""
        self.directory = checkpoint.parent
        self._resumed = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the run's folder, unless it is resumed in its own, and listen for Ctrl-C."""
        if stage != "fit":
            return
        if type(trainer.strategy) is ModelParallelStrategy:
            raise BadInput(
                "trainer.strategy: Lightning's ModelParallelStrategy writes no checkpoint that is whole or not there; "
                "use omnithink_pl.distributed.fsdp.FSDP2Strategy, as in configs/scale/fsdp.yaml"
            )
        if self.directory is None:
            self.directory = self._make_folder(trainer)
        self._module = module_of(trainer)
        self._several = trainer.world_size > 1
        trainer.strategy.checkpoint_io = StreamedCheckpointIO()
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_sigint)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save at once, so that a run which is stopped in its first evaluation can be resumed."""
        self._started = True
        if threading.current_thread() is threading.main_thread():
            # Lightning's own handler, which it removes when the run ends, waits for the end of an evaluation, however
            # long, and tells other processes at once, in the midst of collective calls.
            signal.signal(signal.SIGTERM, self._on_sigterm)
        if not self._resumed:
            self._save(trainer)

    def on_stage_start(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Note where the stage ends."""
        self._run = run

    def on_stage_end(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Save the evaluation before training goes on."""
        self._save(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Begin the step."""
        self._in_step = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Save every few steps and before the evaluation of a stage; stop if Ctrl-C came during the step."""
        self._in_step = False
        module = module_of(trainer)
        module.end_step()  # the callbacks that track it have been called
        # One process may get the signal a step before the others.
        self._interrupted = module.barrier.any_rank(self._interrupted)
        if self._interrupted or module.steps_done % self.every_n_steps == 0 or module.steps_done == self._run.end_step:
            self._save(trainer)
        if self._interrupted:
            raise self._ending

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Open Lightning's only epoch again: the curriculum knows what is left, and Lightning skips an ended epoch.

        A signal behind the last step ends the run when the epoch has ended. Skipped, the resumed run would neither
        be tracked nor store what its last stage has left undone.
        """
        for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
            counts |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the trained policy, ready for ``from_pretrained``; all processes have a part of it."""
        self._started = False  # there is nothing more to save than what the last stage's end has saved
        if self.save_policy:
            write_policy(trainer, self.policy_path)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save the last finished step, unless an update was interrupted or writing was what failed.

        A step that could not be tracked is not saved either, or its metrics would be missing for good: the resumed run
        repeats it. Saving is collective: with several processes, all must stand between the same two steps. Otherwise
        the last checkpoint is left intact, and the end of this process ends the others.
        """
        module = module_of(trainer)
        if not self._started or isinstance(exception, CheckpointError):
            return
        if isinstance(exception, TrainingDiverged):
            log.warning("Nothing more was saved: %s is from before the update that went wrong", self.path)
        elif module.barrier.all_at_same_step():
            self._save(trainer)
            log.info("Saved %s; continue with --ckpt_path last", self.path)
        else:
            log.warning(
                "Nothing more was saved: a step was under way or not tracked, or the processes were at different ones. "
                "The checkpoint from before is intact; continue with --ckpt_path last"
            )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore the previous handler of Ctrl-C."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    @property
    def _can_stop_at_once(self) -> bool:
        # While rewards are awaited nothing has changed yet: a slow judge need not be waited for.
        waiting = self._module is not None and self._module.watch.phase == "reward"
        # Several processes stop together, at the end of a step: one alone would leave the others waiting for it.
        return (not self._in_step or waiting) and not self._several

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted or self._can_stop_at_once:
            raise KeyboardInterrupt
        self._interrupted = True
        log.info("Ctrl-C: finishing this step, then saving. Press again to stop at once.")

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        # Whoever does not want to wait sends SIGKILL.
        if self._can_stop_at_once:
            raise SIGTERMException
        self._interrupted = True
        if not self._several:  # else a process that got none has to end like the others
            self._ending = SIGTERMException
        log.info("SIGTERM: finishing this step in all processes, then saving")

    def _make_folder(self, trainer: L.Trainer) -> Path:
        """Have rank 0 make the run's folder, and tell all processes which one it is.

        Raises:
            CheckpointError: If it cannot be made.
            BadInput: If it was named and has a checkpoint already.
        """
        parent = Path(trainer.default_root_dir) / self.name
        made: Path | OSError | None = None
        if trainer.is_global_zero:
            try:
                folder = parent / self.folder if self.folder else make_folder(parent, time.strftime("%Y%m%d-%H%M%S"))
                folder.mkdir(parents=True, exist_ok=True)
                made = folder
            except OSError as error:
                made = error
        made = trainer.strategy.broadcast(made)
        assert made is not None
        if isinstance(made, OSError):
            raise CheckpointError(_advice(parent, made)) from made
        if (made / _LAST).exists():
            raise BadInput(
                f"checkpoints.folder: {made} has the checkpoint of another run; continue that one with "
                f"--ckpt_path={made / _LAST}, or name another folder"
            )
        return made

    def _save(self, trainer: L.Trainer) -> None:
        module_of(trainer).check_weights()
        try:
            trainer.save_checkpoint(self.path)
        except OSError as error:
            raise CheckpointError(_advice(self.path, error)) from error


def write_policy(trainer: L.Trainer, path: Path) -> None:
    """Save the present policy, ready for ``from_pretrained``; all processes must call it.

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
