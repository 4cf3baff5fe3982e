"""Start, resume and close runs; the process that each belongs to, and its environment."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.tracking.store import SETTING, TrackingError

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    from mlflow.tracking import MlflowClient

FOLDER = "folder"
"""Tag of a run: the absolute path of its folder."""
LAST_USED = "last_used"
"""Tag of an experiment: when a run last started in it."""
# The UI opens an experiment of this kind on its runs instead of on traces and prompts.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


@dataclass(frozen=True)
class Owner:
    """The process that writes a run.

    The start time is read in clock ticks from ``/proc`` because a start time of day, such as psutil's, changes when the
    system clock is corrected.
    """

    host: str
    # Identity of the machine's boot and of the process's PID namespace: the same number in another container or after
    # a restart is another process
    boot: str
    pid: int
    started: str  # when the process started, in clock ticks since the boot; tells a reused number apart

    @classmethod
    def current(cls) -> Owner:
        """Return this process."""
        return cls(platform.node(), _boot(), os.getpid(), _started(os.getpid()) or "")

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Owner | None:
        """Return the process that a run's tags name; ``None`` if they name none."""
        host, boot, pid, started = (tags.get(f"owner.{key}", "") for key in ("host", "boot", "pid", "started"))
        return cls(host, boot, int(pid), started) if pid.isdigit() else None

    def tags(self) -> dict[str, str]:
        """Return the tags that name this process."""
        return {f"owner.{key}": str(value) for key, value in asdict(self).items()}

    def is_running(self) -> bool | None:
        """Whether the process is running; ``None`` if it cannot be seen from here, as on another machine."""
        if self.host != platform.node() or self.boot != _boot():
            return None
        if Path("/proc/self/stat").exists():
            return _started(self.pid) == self.started
        try:  # macOS: a reused number looks alive, which is the safe side
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Start of a process in clock ticks, field 22 of proc(5) stat; ``None`` if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name in brackets may hold spaces and brackets
    return None if state in "ZX" else rest[18]


def find_experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """Return the id of an experiment, which is created if it does not exist."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location, _EXPERIMENT_TAGS))
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
    """Tag an experiment with the time of its last use, which also proves that the store can be written."""
    set_experiment_tag(client, experiment_id, LAST_USED, time.strftime("%Y-%m-%d %H:%M"))


def set_experiment_tag(client: MlflowClient, experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an experiment, which other runs may set at the same time."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_experiment_tag(experiment_id, key, value)
    except MlflowException:
        # MLflow looks for a tag and then inserts it: of two runs that do so at once, one fails, and finds the tag now.
        client.set_experiment_tag(experiment_id, key, value)


def start_run(client: MlflowClient, experiment_id: str, name: str | None, tags: Mapping[str, str]) -> str:
    """Create a run of this process and return its id; MLflow adds user, source and commit."""
    from mlflow.tracking.context.registry import resolve_tags

    all_tags = resolve_tags({**Owner.current().tags(), **tags})
    return str(client.create_run(experiment_id, tags=all_tags, run_name=name).info.run_id)


def resume_run(client: MlflowClient, run_id: str) -> None:
    """Continue a run in this process, unless another one is still writing it, and show it as running."""
    from mlflow.exceptions import MlflowException

    problem = f"{SETTING}: the checkpoint continues run {run_id}, which {{}}; name the store it was tracked in, or "
    problem += "start without --ckpt_path"
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise TrackingError(problem.format("is not in this store")) from error
    if run.info.lifecycle_stage == "deleted":
        raise TrackingError(problem.format("was deleted; `mlflow runs restore` brings it back"))
    owner = Owner.from_tags(run.data.tags)
    if run.info.status == "RUNNING" and owner is not None and owner.pid != os.getpid() and owner.is_running():
        raise TrackingError(f"run {run_id} is still being written by process {owner.pid}; stop that one first")
    take_over(client, run_id)


def monitor_system(run_id: str, uri: str) -> SystemMetricsMonitor:
    """Start to log the use of processor, memory and GPUs, from where the run left off, until ``finish`` is called."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor


def take_over(client: MlflowClient, run_id: str) -> None:
    """Show a run as running and owned by this process."""
    client.update_run(run_id, status="RUNNING")
    for key, value in Owner.current().tags().items():
        client.set_tag(run_id, key, value)


def close_dead_runs(client: MlflowClient, experiment_id: str) -> None:
    """Mark as killed the runs that show as running though their process on this machine has ended."""
    for run in client.search_runs([experiment_id], filter_string="attributes.status = 'RUNNING'"):
        owner = Owner.from_tags(run.data.tags)
        if owner is not None and owner.is_running() is False:
            client.set_terminated(run.info.run_id, status="KILLED")


def environment() -> dict[str, Any]:
    """Return Python, platform, processors, the versions of all installed packages, and the commit."""
    import torch

    commit, dirty = git_commit()
    metadata = [distribution.metadata for distribution in distributions()]
    packages = {str(one["Name"]): one["Version"] for one in metadata if one["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "git": {"commit": commit, "uncommitted_changes": dirty},
        "packages": dict(sorted(packages.items())),
    }


def git_commit(directory: Path | None = None) -> tuple[str | None, bool]:
    """Return the commit of a directory, by default this package's, and whether it was changed since.

    ``(None, False)`` where git tracks no file of the directory, as for a package installed below a checkout.
    """
    root = directory or Path(__file__).parents[1]
    if not _git(root, "ls-files"):
        return None, False
    return _git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain", "--untracked-files=no"))


def _git(directory: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
