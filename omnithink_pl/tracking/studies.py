"""A study in the store: one parent run, and the runs that belong to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omnithink_pl.study.job import Job
from omnithink_pl.tracking.artifacts import Artifacts
from omnithink_pl.tracking.owner import Owner
from omnithink_pl.tracking.runs import find_experiment, start_run
from omnithink_pl.tracking.store import TrackingError, artifact_location, connect, guard

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

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
