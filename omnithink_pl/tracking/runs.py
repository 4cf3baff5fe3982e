"""The life of a run in the store: started, resumed, and closed when its process died."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omnithink_pl.tracking.owner import Owner
from omnithink_pl.tracking.store import SETTING, TrackingError

if TYPE_CHECKING:
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
