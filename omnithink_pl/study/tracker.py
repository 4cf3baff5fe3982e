"""The parent run of a study in MLflow, whose children are the study's runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from omnithink_pl.study.definition import Job
from omnithink_pl.tracking.mlflow_artifacts import MLflowArtifacts
from omnithink_pl.tracking.reader import DEFINITION, find_parents, job_tags, parent_tags, search_runs
from omnithink_pl.tracking.runs import find_experiment, start_run, take_over
from omnithink_pl.tracking.store import artifact_location, connect, guard

_CONTEXT = "MLFLOW_RUN_CONTEXT"  # tags, in JSON, of every run that a process creates


class StudyTracker:
    """Records in the store, and nowhere else, which jobs of a study are done.

    A run becomes a study's by its tags. They reach the process that creates the run through the environment, so that
    every verb which tracks itself can be part of a study. The definition's ``name`` identifies the study within the
    experiment.
    """

    def __init__(self, uri: str, experiment: str, definition: Mapping[str, Any]) -> None:
        self.uri = uri
        self.definition = definition
        self.experiment = experiment
        self.name = str(definition["name"])
        self._client = connect(uri)
        with guard(uri, "look for the study"):
            found = self._client.get_experiment_by_name(experiment)
            self._experiment_id = "" if found is None else str(found.experiment_id)
            parents = find_parents(self._client, [self._experiment_id], self.name) if found else []
            self.parent_id = str(parents[0].info.run_id) if parents else ""

    def begin(self) -> None:
        """Show the study as running, and store its present definition."""
        with guard(self.uri, "open the study"):
            self._experiment_id = find_experiment(self._client, self.experiment, artifact_location(self.uri))
            if not self.parent_id:
                tags = {"kind": "study", **parent_tags(self.name)}
                own = start_run(self._client, self._experiment_id, f"study {self.name}", tags)
                # Jobs of a cluster may start at the same time: the oldest parent stays, and all see which one that is.
                self.parent_id = str(find_parents(self._client, [self._experiment_id], self.name)[0].info.run_id)
                if self.parent_id != own:
                    self._client.delete_run(own)
            take_over(self._client, self.parent_id)
        MLflowArtifacts(self._client, self.parent_id, self.uri).json(self.definition, DEFINITION)

    def end(self, status: str) -> None:
        """Show the study as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        with guard(self.uri, "close the study"):
            self._client.set_terminated(self.parent_id, status=status)

    def finished(self, job: Job) -> bool:
        """Whether a run of this job has finished."""
        return "FINISHED" in self._statuses(job)

    def started(self, job: Job) -> bool:
        """Whether there is any run of this job."""
        return bool(self._statuses(job))

    def record(self, job: Job) -> None:
        """Add a finished run for a job whose process tracks nothing itself."""
        tags = {"kind": job.run, **self._tags(job)}
        with guard(self.uri, f"record {job.key}"):
            run_id = start_run(self._client, self._experiment_id, f"{job.run}-{job.seed}", tags)
            self._client.set_terminated(run_id, status="FINISHED")

    def environment(self, job: Job) -> dict[str, str]:
        """Return the environment variable by which MLflow tags the runs of a job's process."""
        return {_CONTEXT: json.dumps(self._tags(job))}

    def _tags(self, job: Job) -> dict[str, str]:
        return job_tags(self.parent_id, self.name, job.run, job.seed, job.fingerprint)

    def _statuses(self, job: Job) -> list[str]:
        if not self.parent_id:
            return []
        with guard(self.uri, f"look for {job.key}"):
            return [run.info.status for run in search_runs(self._client, [self._experiment_id], self._tags(job))]
