"""Where a tracked fit has put its checkpoint and its policy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omnithink_pl.errors import BadInput
from omnithink_pl.tracking.owner import Owner
from omnithink_pl.tracking.store import connect, guard

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

FOLDER = "folder"
"""The tag of a run that has the absolute path of its folder."""
POLICY = "policy"
_URI = re.compile(r"(?:runs:/)?(?P<run>[0-9a-f]{32})(?:/(?P<path>.+))?")


class RunPath(NamedTuple):
    """Something that a run has made.

    Args:
        run_id: MLflow's.
        path: Below the run's folder, or among its artifacts.
    """

    run_id: str
    path: str


def run_path(name: str) -> RunPath | None:
    """What the id of a run, or MLflow's ``runs:/<id>/<path>``, names; ``None`` for any other name.

    Args:
        name: Without a path the run's final policy is meant.
    """
    found = _URI.fullmatch(name)
    if found is None or (found["path"] and not name.startswith("runs:/")):
        return None
    return RunPath(found["run"], (found["path"] or POLICY).rstrip("/"))


def find_directory(wanted: RunPath, uri: str) -> Path:
    """The directory of what a run has made: in its folder, if that is on this machine, or among its artifacts.

    Args:
        wanted: The run, and what of it.
        uri: The tracking store.

    Raises:
        BadInput: If the run is not in the store, or what is wanted is in neither place.
        TrackingError: If the store cannot be used.
    """
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    try:
        run = client.get_run(wanted.run_id)
    except MlflowException as error:
        raise BadInput(f"no run {wanted.run_id} at {uri}; name the store that it is in with --tracking_uri") from error
    folder = run.data.tags.get(FOLDER)
    if folder is not None and (Path(folder) / wanted.path).is_dir():
        return Path(folder) / wanted.path
    stored = _downloaded(client, wanted, uri)
    if stored is None:
        raise BadInput(f"run {wanted.run_id} has no {wanted.path!r}: {_why(run)}")
    return stored


def _downloaded(client: MlflowClient, wanted: RunPath, uri: str) -> Path | None:
    with guard(uri, f"read the artifacts of run {wanted.run_id}"):
        if not client.list_artifacts(wanted.run_id, wanted.path):
            return None
        return Path(client.download_artifacts(wanted.run_id, wanted.path))


def _why(run: Run) -> str:
    folder = run.data.tags.get(FOLDER)
    if folder is None:
        return "it names no folder, so it is no fit, or one of an earlier version; give the policy's directory instead"
    if run.info.status != "FINISHED":
        last = f"{folder}/last.ckpt"
        return f"the run is {run.info.status}, and a policy is saved at its end; continue it with --ckpt_path {last}"
    owner = Owner.from_tags(run.data.tags)
    host = owner.host if owner is not None else "another machine"
    return (
        f"there is none in {folder}, its folder on {host}, nor among its artifacts; copy it here and give its "
        f"directory, or train with checkpoints.save_policy=true"
    )
