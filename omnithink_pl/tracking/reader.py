"""Read runs from the tracking store: by tags, by study, by id; their metrics, texts and files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.errors import BadInput
from omnithink_pl.tracking.runs import FOLDER, Owner
from omnithink_pl.tracking.store import TrackingError, connect, guard

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

DEFINITION = "study.json"
"""Artifact of a study's parent run."""
_PARENT, _STUDY, _PART = "mlflow.parentRunId", "study", "study.part"

_POLICY = "policy"
_URI = re.compile(r"(?:runs:/)?(?P<run>[0-9a-f]{32})(?:/(?P<path>.+))?")
_PAGE = 1000  # runs


def search_runs(client: MlflowClient, experiment_ids: Sequence[str], tags: Mapping[str, str]) -> list[Run]:
    """Return all runs with these tags, however many."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs: list[Run] = []
    token: str | None = None
    while token != "":
        page = client.search_runs(list(experiment_ids), filter_string=wanted, max_results=_PAGE, page_token=token)
        runs += page
        token = page.token or ""
    return runs


def parent_tags(study: str) -> dict[str, str]:
    """Return the tags of a study's parent run."""
    return {_STUDY: study, _PART: "parent"}


def job_tags(parent_id: str, study: str, run: str, seed: int, fingerprint: str) -> dict[str, str]:
    """Return the tags of a study's run."""
    return {
        _PARENT: parent_id,
        _STUDY: study,
        _PART: "run",
        "study.run": run,
        "study.seed": str(seed),
        "study.fingerprint": fingerprint,
    }


def find_parents(client: MlflowClient, experiment_ids: Sequence[str], name: str) -> list[Run]:
    """Return the parent runs of a study, oldest first."""
    runs = search_runs(client, experiment_ids, parent_tags(name))
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def find_study(client: MlflowClient, uri: str, name: str) -> Run:
    """Return the parent run of a study, whatever its experiment."""
    with guard(uri, "look for the study"):
        ids = [str(experiment.experiment_id) for experiment in client.search_experiments()]
        found = find_parents(client, ids, name)
        if not found:
            known = {run.data.tags[_STUDY] for run in search_runs(client, ids, {_PART: "parent"})}
            raise TrackingError(f"study: no study {name!r} at {uri}; it has {sorted(known) or 'none'}")
    return found[-1]


def metric_history(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    """Return the points (step, value) of a metric, by step."""
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))


def list_files(client: MlflowClient, run: Run, folder: str | None = None) -> list[str]:
    """Return the paths of a run's artifacts in a folder."""
    return [str(file.path) for file in client.list_artifacts(run.info.run_id, folder)]


def load_text(client: MlflowClient, run: Run, path: str) -> str | None:
    """Return the text of an artifact; ``None`` if the run has none of that name."""
    from mlflow import artifacts

    if path not in list_files(client, run, str(Path(path).parent) if "/" in path else None):
        return None
    return str(artifacts.load_text(f"{run.info.artifact_uri}/{path}"))


def find_directory(name: str, uri: str) -> Path | None:
    """Return a directory of a run: from its folder, if that is on this machine, else from its artifacts.

    The name is MLflow's ``runs:/<id>/<path>``, or the id of a run, whose final policy is meant; ``None`` for any other.

    Raises:
        BadInput: If the run is not in the store, or the directory is in neither place.
    """
    from mlflow.exceptions import MlflowException

    match = _URI.fullmatch(name)
    if match is None or (match["path"] and not name.startswith("runs:/")):
        return None
    run_id, path = match["run"], (match["path"] or _POLICY).rstrip("/")
    client = connect(uri)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise BadInput(f"no run {run_id} at {uri}; name the store that it is in with --tracking_uri") from error
    folder = run.data.tags.get(FOLDER)
    if folder is not None and (Path(folder) / path).is_dir():
        return Path(folder) / path
    with guard(uri, f"read the artifacts of run {run_id}"):
        if client.list_artifacts(run_id, path):
            return Path(client.download_artifacts(run_id, path))
    raise BadInput(f"run {run_id} has no {path!r}: {_why_missing(run)}")


def _why_missing(run: Run) -> str:
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
