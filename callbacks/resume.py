"""Finds the checkpoint to resume from, and reads from it what must be known before training starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import yaml

from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.errors import BadInput
from omnithink_pl.model.checkpoint_file import read_whole
from omnithink_pl.model.sharded_checkpoint import shards_of

from .changes import Change, compare, refused
from .checkpoints import Checkpoints
from .curriculum import Curriculum
from .lookups import callback_of, find_callback
from .tracking import SaveResolvedConfig, Tracking, tracking_logger

log = logging.getLogger(__name__)
LAST = "last"


class ResumeError(BadInput):
    """A checkpoint cannot be resumed from."""


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint says about its run.

    Args:
        run_id: The tracked run that wrote it; empty if none did.
        steps_done: Finished steps.
        config: The resolved config that it was written with; empty if it was written without the command line.
    """

    run_id: str
    steps_done: int
    config: str = ""


def prepare_resume(trainer: L.Trainer, wanted: str | None, name: str) -> Path | None:
    """Find the checkpoint that ``--ckpt_path`` asks for, and have its folder and its tracked run continued.

    Args:
        trainer: With the callbacks and loggers of the run.
        wanted: Value of ``--ckpt_path``.
        name: Kind of run.

    Returns:
        Path of the checkpoint; ``None`` to start afresh.

    Raises:
        ResumeError: If the checkpoint is missing, damaged, of another curriculum, or of settings that cannot change.
    """
    found = find_checkpoint(wanted, Path(trainer.default_root_dir) / name)
    if found is None:
        return None
    resumed = read_checkpoint(found, callback_of(trainer, Curriculum).stages)
    log.info("Continuing %s after step %d", found, resumed.steps_done)
    saved = find_callback(trainer, SaveResolvedConfig)
    if saved is not None and resumed.config:
        saved.resume(check_changes(found, resumed, saved.text), resumed.steps_done)
    callback_of(trainer, Checkpoints).resume(found)
    logger = tracking_logger(trainer)
    if logger is not None and resumed.run_id:
        logger.resume(resumed.run_id)
    return found


def check_changes(path: Path, resumed: Resumed, config: str) -> list[Change]:
    """Tell how a config differs from a checkpoint's.

    Returns:
        The settings that differ, all of which may.

    Raises:
        ResumeError: If one cannot change midway; lists all of those.
    """
    before: Mapping[str, object] = yaml.safe_load(resumed.config)
    changes = compare(before, yaml.safe_load(config))
    if wrong := refused(changes, before):
        raise ResumeError(
            f"--ckpt_path: {path} was trained with other settings than now, which cannot change midway: "
            f"{'; '.join(map(str, wrong))}. Give them as they were, or start a new run from its policy"
        )
    for change in changes:
        log.warning("From step %d on: %s", resumed.steps_done, change)
    return changes


def find_checkpoint(wanted: str | None, runs: Path) -> Path | None:
    """Return the checkpoint that ``--ckpt_path`` asks for.

    Args:
        wanted: A path; ``last`` for the newest below ``runs``; or nothing.
        runs: Folder of the runs of this kind, which have a folder each.

    Returns:
        Its path; ``None`` if none is wanted, or ``last`` finds none, so that a job which is started again and again
        need not know whether it is the first time.

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
        checkpoint = read_whole(path)
        shards_of(checkpoint, path)  # whether they are there; their checksums are compared when they are read
        steps_done = checkpoint["steps_done"]
        curriculum = checkpoint["callbacks"][Curriculum.__qualname__]
        written, plan, begun = curriculum["stages"], curriculum["plan"], curriculum["begun"]
        run_id = checkpoint["callbacks"][Tracking.__qualname__]["run_id"]
        config = checkpoint["callbacks"].get(SaveResolvedConfig.__qualname__, {}).get("config", "")
    except (KeyError, TypeError, OSError) as error:
        raise ResumeError(
            f"--ckpt_path: {path} is damaged or not a checkpoint of this project ({error}); "
            f"take another one, or start anew without --ckpt_path"
        ) from error
    configured = [stage.to_dict() for stage in stages]
    if [stage["tasks"] for stage in plan] != [stage["tasks"] for stage in written]:
        begun = len(written)  # a scheduler may have chosen any of them: all must be the same
    if written[:begun] != configured[:begun]:
        raise ResumeError(
            f"--ckpt_path: {path} was trained with curriculum.stages {written}, and the config's first {begun} "
            f"differ; use the same config, or start anew without --ckpt_path"
        )
    if steps_done == _steps(plan) and _steps(configured) > _steps(written):
        raise ResumeError(
            f"--ckpt_path: the run of {path} is finished; to train its policy further, start a new run with "
            f"--model.policy={path.parent / 'policy'}"
        )
    return Resumed(run_id or "", steps_done, config)


def _steps(plain: Sequence[dict[str, int]]) -> int:
    return sum(stage["steps"] for stage in plain)
