"""Metric names as MLflow accepts them."""

from __future__ import annotations

import math
import re
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from omnithink_pl.tracking.artifacts import Artifacts
from omnithink_pl.tracking.runs import close_dead_runs, find_experiment, last_steps, mark_used, resume_run, start_run
from omnithink_pl.tracking.store import TrackingError, artifact_location, connect, guard

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


_FORBIDDEN = re.compile(r"[^A-Za-z0-9_/. -]+")


def metric_name(name: str) -> str:
    """A name of letters, digits and ``_/. -``.

    Simply deleting other characters, as Lightning does, turns ``pass@1`` and ``pass1`` into the same
    metric; here ``@`` is written ``_at_`` and anything else ``_``.
    """
    return _FORBIDDEN.sub("_", name.replace("@", "_at_"))


def check_distinct(names: Iterable[str]) -> None:
    """Refuse two metrics that would be stored under one name.

    Raises:
        ValueError: Names both.
    """
    stored: dict[str, str] = {}
    for name in names:
        other = stored.setdefault(metric_name(name), name)
        if other != name:
            raise ValueError(
                f"metrics {other!r} and {name!r} would both be stored as {metric_name(name)!r}; rename one"
            )


NON_FINITE = "train/non_finite"


class TrackingLogger(Logger):
    """Logs to MLflow, synchronously and in one batch per step, so that a killed run loses nothing.

    The store is opened, and written to, before training starts; the run itself is created at the first
    value, because only then is it known whether a checkpoint continues an earlier run. A continued run
    keeps the points that it has: a step that was logged before a kill is not logged twice. A value
    that is NaN or infinite is left out, because MLflow stores infinity as 1.8e308, and is counted in
    ``train/non_finite``.

    Args:
        experiment_name: Experiment that the run belongs to.
        run_name: Name of the run; the kind of run if not given.
        tracking_uri: Where runs are stored: an SQLAlchemy database or a tracking server.
        artifact_location: Where the files of a new experiment go; ``mlartifacts`` beside an SQLite
            database, and the server's own choice otherwise, if not given.
        tags: Tags of a new run, beside those of the ``Tracking`` callback.
        run_id: A run to continue. A resumed checkpoint names its run itself.

    Raises:
        TrackingError: When the store is first used and cannot be; names the setting and the cure.
    """

    def __init__(
        self,
        experiment_name: str = "omnithink",
        run_name: str | None = None,
        tracking_uri: str = "sqlite:///mlflow.db",
        artifact_location: str | None = None,
        tags: dict[str, str] | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__()
        self.run_name = run_name
        self.tracking_uri = tracking_uri
        self._experiment_name = experiment_name
        self._artifact_location = artifact_location
        self._tags = dict(tags or {})
        self._run_id = run_id
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._open = False
        self._logged: dict[str, int] = {}
        self._kept: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self._experiment_name

    @property
    def version(self) -> str | None:
        """Id of the run; ``None`` before there is one."""
        return self._run_id

    @property
    @rank_zero_experiment
    def experiment(self) -> MlflowClient:
        """MLflow's client, once the store is known to be writable. Creates no run."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    @property
    def run_id(self) -> str:
        """Id of the run, which is created or continued if it is not open yet."""
        if not self._open:
            with self._guard("open the run"):
                self._open_run()
        assert self._run_id is not None
        return self._run_id

    @property
    def url(self) -> str | None:
        """Address of the run on a tracking server; ``None`` for a database."""
        if not self.tracking_uri.startswith("http"):
            return None
        return f"{self.tracking_uri.rstrip('/')}/#/experiments/{self._experiment_id}/runs/{self.run_id}"

    @property
    def artifacts(self) -> Artifacts:
        """Where the files of the run go."""
        return Artifacts(self.experiment, self.run_id, self.tracking_uri)

    def keep(self, text: str, path: str) -> None:
        """Store a text file with the run as soon as there is a run; none is opened for it."""
        self._kept[path] = text

    def resume(self, run_id: str) -> None:
        """Continue a run, once there is something to log; an empty id, of an untracked run, changes nothing."""
        if run_id and run_id != self._run_id:
            self._run_id, self._open = run_id, False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Store one step's values in one transaction.

        Args:
            metrics: Value of each metric.
            step: Finished steps; 0 if not given.
        """
        check_distinct(metrics)
        points = {metric_name(name): float(value) for name, value in metrics.items()}
        finite = {name: value for name, value in points.items() if math.isfinite(value)}
        if len(finite) < len(points):
            finite[NON_FINITE] = float(len(points) - len(finite))
        self._store(finite, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Store flat parameters. MLflow's cannot change, so a continued run keeps the ones it has.

        Few belong here: the whole configuration is stored as the artifact ``config.yaml``.
        """
        from mlflow.entities import Param

        flat = vars(params) if isinstance(params, Namespace) else params
        with self._guard("log parameters"):
            known = self.experiment.get_run(self.run_id).data.params
            new = [Param(key, str(value)) for key, value in flat.items() if key not in known]
            self.experiment.log_batch(self.run_id, params=new, synchronous=True)

    @rank_zero_only
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        with self._guard("set tags"):
            for key, value in tags.items():
                self.experiment.set_tag(self.run_id, key, value)

    def latest(self) -> dict[str, float]:
        """The last value of each metric of the run."""
        with self._guard("read metrics"):
            return dict(self.experiment.get_run(self.run_id).data.metrics)

    def history(self, name: str) -> list[tuple[int, float]]:
        """The points (step, value) of a metric of the run, by step."""
        with self._guard("read metrics"):
            points = self.experiment.get_metric_history(self.run_id, name)
        return sorted((point.step, point.value) for point in points)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Close the run as ``FINISHED``, as ``KILLED`` after Ctrl-C or SIGTERM, or as ``FAILED``.

        Lightning calls this with ``failed`` while the exception that ended the fit is being handled.
        That exception must reach the user even when the store is what failed.
        """
        if not self._open:
            return
        cause = sys.exc_info()[1]
        try:
            with self._guard("close the run"):
                self.experiment.set_terminated(self.run_id, status=_final_status(status, cause))
        except TrackingError as error:
            if cause is None:
                raise
            rank_zero_warn(str(error))
        self._open = False

    def _store(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        with self._guard("log metrics"):
            run_id, now = self.run_id, int(time.time() * 1000)
            new = [
                Metric(name, value, now, step) for name, value in values.items() if step > self._logged.get(name, -1)
            ]
            if new:
                self.experiment.log_batch(run_id, metrics=new, synchronous=True)

    def _connect(self) -> MlflowClient:
        client = connect(self.tracking_uri)
        with self._guard("write to the tracking store"):
            location = artifact_location(self.tracking_uri, self._artifact_location)
            self._experiment_id = find_experiment(client, self._experiment_name, location)
            mark_used(client, self._experiment_id)
        return client

    def _open_run(self) -> None:
        client = self.experiment
        if self._run_id is None:
            self._run_id = start_run(client, self._experiment_id, self.run_name, self._tags)
        else:
            resume_run(client, self._run_id)
            self._logged = last_steps(client, self._run_id)
        self._open = True
        close_dead_runs(client, self._experiment_id)
        while self._kept:
            path, text = self._kept.popitem()
            self.artifacts.text(text, path)

    @contextmanager
    def _guard(self, action: str) -> Iterator[None]:
        with guard(self.tracking_uri, action):
            yield


def _final_status(status: str, cause: BaseException | None) -> str:
    if status != "failed":
        return "FINISHED"
    return "KILLED" if isinstance(cause, KeyboardInterrupt | SystemExit) else "FAILED"
