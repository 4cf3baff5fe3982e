"""Finds the checkpoint to go on from, and reads from it what must be known before training starts."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from callbacks.checkpoints import Checkpoints
from callbacks.curriculum import Curriculum
from callbacks.tracking import Tracking
from omnithink_pl.curriculum.stages import Stage, boundaries, total_steps
from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput
from omnithink_pl.tracking import TrackingLogger

log = logging.getLogger(__name__)

LAST = "last"


class ResumeError(BadInput):
    """A checkpoint cannot be continued from."""


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint says about its run.

    Args:
        run_id: The tracked run that wrote it; empty if none did.
        steps_done: Steps finished.
    """

    run_id: str
    steps_done: int


def find_checkpoint(wanted: str | None, runs: Path) -> Path | None:
    """The checkpoint that ``--ckpt_path`` asks for.

    Args:
        wanted: A path; ``last`` for the newest below ``runs``; or nothing.
        runs: Where the runs of this kind lie, one folder each.

    Returns:
        Its path; ``None`` if none is wanted, or ``last`` finds none, so that a job which is started
        again and again need not know whether it is the first time.

    Raises:
        ResumeError: If the path does not exist.
    """
    if wanted is None:
        return None
    if wanted == LAST:
        return max(runs.glob("*/last.ckpt"), key=lambda path: path.stat().st_mtime, default=None)
    if not Path(wanted).is_file():
        raise ResumeError(f"--ckpt_path: no file {wanted!r}; give a checkpoint's path, or 'last'")
    return Path(wanted)


def read_checkpoint(path: Path, stages: Sequence[Stage]) -> Resumed:
    """Check that a checkpoint is whole and belongs to this curriculum.

    Args:
        path: The checkpoint.
        stages: The curriculum to be trained; the stages that the checkpoint has begun must be unchanged.

    Raises:
        ResumeError: If the file is damaged, comes from elsewhere or another curriculum, or its run is finished
            and there are further stages.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        steps_done = checkpoint["steps_done"]
        curriculum = checkpoint["callbacks"][Curriculum.__qualname__]
        written, plan = curriculum["stages"], curriculum["plan"]
        run_id = checkpoint["callbacks"][Tracking.__qualname__]["run_id"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, OSError) as error:
        raise ResumeError(
            f"--ckpt_path: {path} is damaged or not a checkpoint of this project ({error}); "
            f"take another one, or start anew without --ckpt_path"
        ) from error
    # Stages that were chosen while training went on may be any: then all must be the same.
    chosen = [stage["tasks"] for stage in plan] != [stage["tasks"] for stage in written]
    begun = len(written) if chosen else sum(first < steps_done for first in _boundaries(plan)[:-1])
    if written[:begun] != [asdict(stage) for stage in stages[:begun]]:
        raise ResumeError(
            f"--ckpt_path: {path} was trained with curriculum.stages {written}, and the config's first {begun} "
            f"differ; use the same config, or start anew without --ckpt_path"
        )
    if steps_done == _boundaries(plan)[-1] and total_steps(stages) > _boundaries(written)[-1]:
        raise ResumeError(
            f"--ckpt_path: the run of {path} is finished; to train its policy further, start a new run with "
            f"--model.policy={path.parent / 'policy'}"
        )
    return Resumed(run_id or "", steps_done)


def _boundaries(stages: Sequence[Mapping[str, Any]]) -> list[int]:
    return boundaries([Stage(**stage) for stage in stages])


def prepare_resume(trainer: L.Trainer, datamodule: MultiTaskData, ckpt_path: str | None, name: str) -> Path | None:
    """Find the checkpoint to resume from, check it, and tell the callbacks and the logger."""
    found = find_checkpoint(ckpt_path, Path(trainer.default_root_dir) / name)
    if found is None:
        return None
    resumed = read_checkpoint(found, datamodule.stages)
    log.info("Continuing %s after step %d", found, resumed.steps_done)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Checkpoints):
            callback.resume(found)
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger) and resumed.run_id:
            logger.resume(resumed.run_id)
    return found
