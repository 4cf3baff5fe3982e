"""Lightning's MLflow logger, made safe for runs that are killed and resumed."""

from __future__ import annotations

import math
import re
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from omnithink_pl.redaction import redact
from omnithink_pl.tracking.mlflow_artifacts import MLflowArtifacts
from omnithink_pl.tracking.outbox import Entry, Outbox
from omnithink_pl.tracking.parameters import parameters
from omnithink_pl.tracking.reader import metric_history
from omnithink_pl.tracking.runs import (
    close_dead_runs,
    find_experiment,
    mark_used,
    monitor_system,
    resume_run,
    set_experiment_tag,
    start_run,
)
from omnithink_pl.tracking.store import DEFAULT, TrackingError, artifact_location, find_store, guard, opening
from omnithink_pl.tracking.views import VIEW_TAG, run_address, runs_address, server_of, summary_view

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    from mlflow.tracking import MlflowClient

NON_FINITE = "train/non_finite"
_SYSTEM = "system/"
_BATCH = 1000
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_/. -]+")


class TrackingLogger(MLFlowLogger):
    """Logs to MLflow, synchronously and in one batch per step, so that a killed run loses nothing.

    The store is opened, and written to, before training starts; the run itself is created at the first value, because
    only then is it known whether a checkpoint continues an earlier run. A resumed run keeps its points: a step that was
    logged before a kill is not logged twice. While a server is away, what it should have got waits in the outbox, and
    in every checkpoint. A value that is NaN or infinite is left out, because MLflow stores infinity as 1.8e308, and is
    counted in ``train/non_finite``.

    Args:
        experiment_name: Experiment that the run belongs to.
        run_name: Name of the run; the kind of run if not given.
        tracking_uri: Where runs are stored: an SQLAlchemy database or a tracking server; ``$MLFLOW_TRACKING_URI``, else
            ``sqlite:///mlflow.db``, if not given.
        artifact_location: Where the files of a new experiment go; ``mlartifacts`` beside an SQLite
            database, and the server's own choice otherwise, if not given.
        tags: Tags of a new run, beside those of the ``Tracking`` callback.
        run_id: A run to continue. A resumed checkpoint names its run itself.
        system_metrics: Also log processor, memory, disk, network and GPUs every ten seconds, as ``system/...``.

    Raises:
        TrackingError: When the store is first used and cannot be; names the setting and the cure.
    """

    def __init__(
        self,
        experiment_name: str = "omnithink",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        artifact_location: str | None = None,
        tags: dict[str, str] | None = None,
        run_id: str | None = None,
        system_metrics: bool = False,
    ) -> None:
        # MLFlowLogger's constructor opens the store, in every process and for every verb; `experiment` calls it later.
        # The attributes that it would set are set here as far as they are read before.
        Logger.__init__(self)
        self.run_name = run_name
        self.tracking_uri = self._tracking_uri = find_store(tracking_uri)
        self._experiment_name = experiment_name
        self._artifact_location = artifact_location
        self.tags = dict(tags or {})
        self._run_id = run_id
        self._mlflow_client: MlflowClient | None = None
        self._initialized = False  # whether the run is open
        self._log_model = False
        self._system_metrics = system_metrics
        self._monitor: SystemMetricsMonitor | None = None  # while the run is open
        self._history: dict[str, list[tuple[int, float]]] = {}  # every point of the run, as the store has them
        self._config = ""  # to store once there is a run
        self._incomplete = False
        self.outbox = Outbox(self.tracking_uri, self._deliver)

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
        """MLflow's client; opens the store, unlike MLFlowLogger's, which also creates a run and sets a global store."""
        if self._mlflow_client is None:
            location = artifact_location(self.tracking_uri, self._artifact_location)
            with opening(self.tracking_uri):
                super().__init__(
                    self._experiment_name, self.run_name, self.tracking_uri, self.tags,
                    artifact_location=location, run_id=self._run_id, synchronous=True,
                )  # fmt: skip
            with guard(self.tracking_uri, "write to the tracking store"):
                self._experiment_id = find_experiment(self._mlflow_client, self._experiment_name, location)
                mark_used(self._mlflow_client, self._experiment_id)
        return self._mlflow_client

    @property
    def run_id(self) -> str:
        """Id of the run, which is created or resumed if it is not open yet."""
        if not self._initialized:
            with guard(self.tracking_uri, "open the run"):
                self._open_run()
        assert self._run_id is not None
        return self._run_id

    @property
    def url(self) -> str:
        """Address of the run in MLflow's UI; for a database, once ``mlflow ui`` serves it."""
        return run_address(server_of(self.tracking_uri), self._experiment_id or "", self.run_id)

    @property
    def runs_url(self) -> str:
        """Address of the table of all runs of the experiment."""
        _ = self.experiment
        return runs_address(server_of(self.tracking_uri), self._experiment_id or "")

    @property
    def server_command(self) -> str:
        """How to serve the UI of a database, and a comma; empty for a tracking server, which does."""
        if self.tracking_uri.startswith("http"):
            return ""
        if self.tracking_uri != DEFAULT:
            return f"omnithink ui --tracking_uri={self.tracking_uri},"
        return "make ui," if Path("main.py").exists() else "omnithink ui,"  # outside the checkout there is no Makefile

    @property
    def artifacts(self) -> MLflowArtifacts:
        """Writer of the run's files."""
        return MLflowArtifacts(self.experiment, self.run_id, self.tracking_uri, self.outbox)

    def keep_config(self, text: str) -> None:
        """Store a configuration, in YAML, as soon as there is a run; none is opened for it."""
        self._config = text

    def resume(self, run_id: str) -> None:
        """Continue a run, once there is something to log; an empty id, of an untracked run, changes nothing."""
        if run_id and run_id != self._run_id:
            self._run_id, self._initialized = run_id, False

    def state_dict(self) -> dict[str, Any]:
        """Return the run's id, and what the store has not got yet, as plain values."""
        return {"run_id": self._run_id, "pending": list(self.outbox.entries)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the run of a checkpoint, which first delivers what the store had not got."""
        self.resume(state["run_id"] or "")
        self.outbox.restore(state.get("pending", ()))
        if self._initialized:
            self._drop_known()

    def drain(self) -> None:
        """Wait until the store has everything; raises :class:`TrackingError` if it stays away."""
        self.outbox.drain()

    def mark_incomplete(self) -> None:
        """Have the run closed as ``KILLED``: its trainer was told to end before its last step."""
        self._incomplete = True

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Store the values at one step in one transaction, without those that the run already has."""
        check_distinct(metrics)
        step = step or 0
        stored = {metric_name(name): float(value) for name, value in metrics.items()}
        finite = {name: value for name, value in stored.items() if math.isfinite(value)}
        if len(finite) < len(stored):
            finite[NON_FINITE] = float(len(stored) - len(finite))
        _ = self.run_id  # opens the run, and reads the history of a resumed one
        if new := self._new(finite, step):
            self.outbox.add({"kind": "metrics", "values": new, "step": step, "time": int(time.time() * 1000)})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Store flat parameters. MLflow's cannot change, so a resumed run keeps those it has.

        Unlike MLFlowLogger's, which cuts a value off at 250 characters, it stores as many as MLflow has room for.
        """
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

        flat = vars(params) if isinstance(params, Namespace) else params
        with guard(self.tracking_uri, "log parameters"):
            known = self.experiment.get_run(self.run_id).data.params
            named = {metric_name(key): redact(str(value))[:MAX_PARAM_VAL_LENGTH] for key, value in flat.items()}
            new = [Param(key, value) for key, value in named.items() if key not in known]
            for start in range(0, len(new), MAX_PARAMS_TAGS_PER_BATCH):
                self.experiment.log_batch(self.run_id, params=new[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    @rank_zero_only
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self.artifacts.describe(tags)

    @rank_zero_only
    def show_tasks(self, tasks: Sequence[str]) -> None:
        """Have the experiment's table of runs open with the scores of these tasks."""
        with guard(self.tracking_uri, "save the view of the runs"):
            before = self.experiment.get_experiment(self._experiment_id).tags.get(VIEW_TAG)
            view = summary_view(tasks, before, time.time())
            if view is not None:
                set_experiment_tag(self.experiment, self._experiment_id or "", VIEW_TAG, view)

    def latest(self) -> dict[str, float]:
        """Return the last value of each metric of the run."""
        _ = self.run_id
        return {name: points[-1][1] for name, points in self._history.items()}

    def history(self, name: str) -> list[tuple[int, float]]:
        """Return the points (step, value) of a metric of the run, by step."""
        _ = self.run_id
        return list(self._history.get(name, ()))

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Close the run as ``FINISHED``; as ``KILLED`` after Ctrl-C or SIGTERM, or if steps are left; or as ``FAILED``.

        Lightning calls this with ``failed`` while the exception that ended the fit is being handled. That exception
        must reach the user even when the store is what failed.
        """
        if not self._initialized:
            return
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        cause = sys.exc_info()[1]
        ended = isinstance(cause, KeyboardInterrupt | SIGTERMException) if status == "failed" else self._incomplete
        status = "KILLED" if ended else status
        try:
            if cause is None:
                self.drain()
            with guard(self.tracking_uri, "close the run"):
                super().finalize(status)
        except TrackingError as error:
            if cause is None:
                raise
            rank_zero_warn(str(error))
        self._initialized = False

    def _open_run(self) -> None:
        client = self.experiment
        if self._run_id is None:
            self._run_id = start_run(client, self._experiment_id or "", self.run_name, self.tags or {})
        else:
            resume_run(client, self._run_id)
            names = client.get_run(self._run_id).data.metrics
            own = [name for name in names if not name.startswith(_SYSTEM)]
            self._history = {name: metric_history(client, self._run_id, name) for name in own}
        self._initialized = True
        if self._system_metrics:
            self._monitor = monitor_system(self._run_id, self.tracking_uri)
        self._drop_known()
        close_dead_runs(client, self._experiment_id or "")
        text, self._config = self._config, ""
        if text:
            self.artifacts.text(text, "config.yaml")
            self.log_hyperparams(parameters(yaml.safe_load(text)))

    def _drop_known(self) -> None:
        """Take from the entries of a checkpoint the values that the store has got meanwhile."""
        for entry in self.outbox.entries:
            if entry["kind"] == "metrics":
                entry["values"] = self._new(entry["values"], entry["step"])

    def _new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """Return the values that the run does not have yet, and add them to its history."""
        last = {name: points[-1][0] for name, points in self._history.items()}
        new = {name: value for name, value in values.items() if step > last.get(name, -1)}
        for name, value in new.items():
            self._history.setdefault(name, []).append((step, value))
        return new

    def _deliver(self, entry: Entry) -> None:
        """Bring an entry of the outbox to the store."""
        client, run_id, kind = self.experiment, self.run_id, entry["kind"]
        if kind == "metrics":
            with guard(self.tracking_uri, "log metrics"):
                log_values(client, run_id, entry["values"], entry["step"], entry["time"])
        else:
            MLflowArtifacts(client, run_id, self.tracking_uri).deliver(entry)


def log_values(client: MlflowClient, run_id: str, values: Mapping[str, float], step: int, milliseconds: int) -> None:
    """Store the values of one step, in one transaction where MLflow allows it: it takes 1000 at a time."""
    from mlflow.entities import Metric

    metrics = [Metric(name, value, milliseconds, step) for name, value in values.items()]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH], synchronous=True)


def metric_name(name: str) -> str:
    """Return a name of letters, digits and ``_/. -``, as MLflow requires.

    Deleting other characters, as Lightning does, turns ``pass@1`` and ``pass1`` into the same metric; here ``@`` is
    written ``_at_`` and anything else ``_``.
    """
    return _FORBIDDEN.sub("_", name.replace("@", "_at_"))


def check_distinct(names: Iterable[str]) -> None:
    """Refuse two metrics that would be stored under one name."""
    stored: dict[str, str] = {}
    for name in names:
        other = stored.setdefault(metric_name(name), name)
        if other != name:
            raise ValueError(
                f"metrics {other!r} and {name!r} would both be stored as {metric_name(name)!r}; rename one"
            )
