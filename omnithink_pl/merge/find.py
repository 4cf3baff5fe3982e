"""From what a user calls a model to the directory that it lies in."""

from __future__ import annotations

from pathlib import Path

from omnithink_pl.errors import BadInput
from omnithink_pl.policy import policy_path
from omnithink_pl.tracking.folders import find_directory, run_path

FULL, ADAPTER = "config.json", "adapter_config.json"


def find_model(name: str, tracking_uri: str) -> Path:
    """The directory of a full model or of an adapter.

    Args:
        name: ``embedded``; a directory in Hugging Face format; the folder of a run, whose policy is meant; the folder
            of a kind of run, such as ``outputs/single_math``, of which the newest finished run is meant; the id of a
            run in the tracking store, or ``runs:/<id>/<path>``; or a hub id.
        tracking_uri: Where runs are looked up.

    Raises:
        BadInput: If there is no such model.
    """
    path = Path(policy_path(name)).expanduser()
    if path.is_dir():
        return _inside(path)
    if (wanted := run_path(name)) is not None:
        return _inside(find_directory(wanted, tracking_uri))
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BadInput(f"no directory {name!r}; give a model's directory, a run's folder or id, or a hub id")
    return _download(name)


def _inside(path: Path) -> Path:
    if _is_model(path):
        return path
    if _is_model(path / "policy"):
        return path / "policy"
    finished = [policy for policy in path.glob("*/policy") if _is_model(policy)]
    if not finished:
        raise BadInput(
            f"{path} has neither {FULL} nor {ADAPTER}, nor a finished run with a policy in it; train one first, or "
            f"name another directory"
        )
    return max(finished, key=lambda policy: policy.stat().st_mtime)


def _is_model(path: Path) -> bool:
    return (path / FULL).is_file() or (path / ADAPTER).is_file()


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BadInput(f"{name!r} is no directory here, and cannot be had from the hub: {error}") from error
