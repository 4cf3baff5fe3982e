"""Runs in the store: started, resumed and closed; those of a study under one parent."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omnithink_pl.errors import BadInput
from omnithink_pl.study.job import Job
from omnithink_pl.tracking.artifacts import Artifacts
from omnithink_pl.tracking.store import SETTING, Owner, TrackingError, artifact_location, connect, guard

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


# The UI opens an experiment of this kind on its runs, not on traces and prompts.
LAST_USED = "last_used"
KIND, MODEL_TRAINING = "mlflow.experimentKind", "custom_model_development"


def find_experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """The id of an experiment, which is created when there is none of that name.

    Raises:
        TrackingError: If the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location, {KIND: MODEL_TRAINING}))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another run may have just created it
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"trainer.logger.init_args.experiment_name: {name!r} was deleted; choose another name, or "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"
        )
    return str(experiment.experiment_id)


def mark_used(client: MlflowClient, experiment_id: str) -> None:
    """Note on an experiment when it was last used, which also shows that the store can be written.

    MLflow looks for a tag and then inserts it: of two runs that start at once with a new experiment, one fails, and
    finds the tag when it tries again.
    """
    from mlflow.exceptions import MlflowException

    now = time.strftime("%Y-%m-%d %H:%M")
    try:
        client.set_experiment_tag(experiment_id, LAST_USED, now)
    except MlflowException:
        client.set_experiment_tag(experiment_id, LAST_USED, now)


def start_run(client: MlflowClient, experiment_id: str, name: str | None, tags: Mapping[str, str]) -> str:
    """Create a run that belongs to this process; MLflow adds user, source and commit."""
    from mlflow.tracking.context.registry import resolve_tags

    all_tags = resolve_tags({**Owner.current().tags(), **tags})
    return str(client.create_run(experiment_id, tags=all_tags, run_name=name).info.run_id)


def resume_run(client: MlflowClient, run_id: str) -> None:
    """Continue a run in this process, and show it as running.

    Raises:
        TrackingError: If the store has no such run, or another process is still writing it.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise _not_here(run_id, "is not in this store") from error
    if run.info.lifecycle_stage == "deleted":
        raise _not_here(run_id, "was deleted; `mlflow runs restore` brings it back")
    owner = Owner.from_tags(run.data.tags)
    if run.info.status == "RUNNING" and owner is not None and owner.is_alive_elsewhere():
        raise TrackingError(f"run {run_id} is still being written by process {owner.pid}; stop that one first")
    client.update_run(run_id, status="RUNNING")
    for key, value in Owner.current().tags().items():
        client.set_tag(run_id, key, value)


def last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """The last step that each metric of a run was logged at."""
    names = client.get_run(run_id).data.metrics
    return {name: max(point.step for point in client.get_metric_history(run_id, name)) for name in names}


def close_dead_runs(client: MlflowClient, experiment_id: str) -> list[str]:
    """Mark as killed the runs that still show as running though their process has ended.

    A process that was killed outright cannot say so itself. Only runs of this machine are judged.

    Returns:
        The ids of the runs that were marked.
    """
    running = client.search_runs([experiment_id], filter_string="attributes.status = 'RUNNING'")
    dead = [
        run.info.run_id for run in running if (owner := Owner.from_tags(run.data.tags)) is not None and owner.is_gone()
    ]
    for run_id in dead:
        client.set_terminated(run_id, status="KILLED")
    return dead


def _not_here(run_id: str, why: str) -> TrackingError:
    return TrackingError(
        f"{SETTING}: the checkpoint continues run {run_id}, which {why}; name the store it was tracked in, "
        f"or start without --ckpt_path"
    )


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


PARENT = "mlflow.parentRunId"
STUDY, PART, RUN, SEED, FINGERPRINT = "study", "study.part", "study.run", "study.seed", "study.fingerprint"
DEFINITION = "study.json"
_CONTEXT = "MLFLOW_RUN_CONTEXT"  # tags, in JSON, of every run that a process creates
_PAGE = 1000


class StudyLedger:
    """What of a study has been done stands in the store, and nowhere else.

    A run becomes a study's by its tags. They reach the process that creates it through the environment, so that
    every verb which tracks itself can be part of a study.

    Args:
        uri: The tracking store.
        experiment: Experiment of the study and its runs.
        definition: The study, as plain values; its ``name`` identifies it within the experiment.

    Raises:
        TrackingError: If the store cannot be used.
    """

    def __init__(self, uri: str, experiment: str, definition: Mapping[str, Any]) -> None:
        self.uri = uri
        self.definition = definition
        self.experiment = experiment
        self._client = connect(uri)
        with guard(uri, "look for the study"):
            found = self._client.get_experiment_by_name(experiment)
            self._experiment_id = "" if found is None else str(found.experiment_id)
            parents = find_parents(self._client, [self._experiment_id], self.name) if found else []
            self.parent_id = str(parents[0].info.run_id) if parents else ""

    @property
    def name(self) -> str:
        """Name of the study."""
        return str(self.definition["name"])

    @property
    def artifacts(self) -> Artifacts:
        """Where the files of the study go, once it has begun."""
        return Artifacts(self._client, self.parent_id, self.uri)

    def begin(self) -> None:
        """Show the study as running, and store what it now consists of."""
        with guard(self.uri, "open the study"):
            self._experiment_id = find_experiment(self._client, self.experiment, artifact_location(self.uri, None))
            self.parent_id = self.parent_id or self._create_parent()
            self._client.update_run(self.parent_id, status="RUNNING")
            for key, value in Owner.current().tags().items():
                self._client.set_tag(self.parent_id, key, value)
        self.artifacts.json(self.definition, DEFINITION)

    def end(self, status: str) -> None:
        """Show the study as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        with guard(self.uri, "close the study"):
            self._client.set_terminated(self.parent_id, status=status)

    def finished(self, job: Job) -> bool:
        """Whether a run of this job has finished."""
        return any(run.info.status == "FINISHED" for run in self._runs(job))

    def began(self, job: Job) -> bool:
        """Whether there is any run of this job."""
        return bool(self._runs(job))

    def record(self, job: Job) -> None:
        """Add a finished run for a job whose process tracks nothing itself."""
        with guard(self.uri, f"record {job.key}"):
            run_id = start_run(
                self._client, self._experiment_id, f"{job.run}-{job.seed}", {"kind": job.run, **self._tags(job)}
            )
            self._client.set_terminated(run_id, status="FINISHED")

    def environment(self, job: Job) -> dict[str, str]:
        """The variable by which MLflow tags the runs of a job's process."""
        return {_CONTEXT: json.dumps(self._tags(job))}

    def _tags(self, job: Job) -> dict[str, str]:
        return {
            PARENT: self.parent_id,
            STUDY: self.name,
            PART: "run",
            RUN: job.run,
            SEED: str(job.seed),
            FINGERPRINT: job.fingerprint,
        }

    def _runs(self, job: Job) -> list[Run]:
        if not self.parent_id:
            return []
        wanted = {PARENT: self.parent_id, RUN: job.run, SEED: str(job.seed), FINGERPRINT: job.fingerprint}
        with guard(self.uri, f"look for {job.key}"):
            return search(self._client, [self._experiment_id], wanted)

    def _create_parent(self) -> str:
        tags = {"kind": "study", STUDY: self.name, PART: "parent"}
        own = start_run(self._client, self._experiment_id, f"study {self.name}", tags)
        # Jobs of a cluster may start at the same time: the oldest parent stands, and all see which that is.
        eldest = str(find_parents(self._client, [self._experiment_id], self.name)[0].info.run_id)
        if eldest != own:
            self._client.delete_run(own)
        return eldest


def find_parents(client: MlflowClient, experiment_ids: list[str], name: str) -> list[Run]:
    """The parent runs of a study's name, the oldest first."""
    found = search(client, experiment_ids, {STUDY: name, PART: "parent"})
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def find_study(client: MlflowClient, uri: str, name: str) -> Run:
    """The parent run of a study, in whatever experiment it lies.

    Raises:
        TrackingError: If there is none.
    """
    with guard(uri, "look for the study"):
        ids = [str(experiment.experiment_id) for experiment in client.search_experiments()]
        found = find_parents(client, ids, name)
        if not found:
            known = {run.data.tags[STUDY] for run in search(client, ids, {PART: "parent"})}
            raise TrackingError(f"study: no study {name!r} at {uri}; it has {sorted(known) or 'none'}")
    return found[-1]


def search(client: MlflowClient, experiment_ids: list[str], tags: Mapping[str, str]) -> list[Run]:
    """All runs with these tags, however many."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(experiment_ids, filter_string=wanted, max_results=_PAGE, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
