"""Models on disk: where they are, and their weights, read one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from omnithink_pl.errors import BadInput
from omnithink_pl.model.architecture import load_config
from omnithink_pl.model.policy import policy_path
from omnithink_pl.tracking.reader import find_directory

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
Checkpoint = Literal["last", "best"]  # of a run: its final policy, or the one that its validation found best

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"


def find_model(name: str, tracking_uri: str, checkpoint: Checkpoint = "last") -> Path:
    """Find the directory of a full model or of an adapter.

    ``name`` is ``embedded``; a directory in Hugging Face format; the folder of a run, whose policy is meant
    (``checkpoint`` says which), or of a kind of run, such as ``outputs/single_math``, of which the newest finished run
    is meant; the id of a run in the tracking store, or ``runs:/<id>/<path>``; or a hub id.
    """
    path = Path(policy_path(name)).expanduser()
    if path.is_dir():
        return _inside(path, checkpoint)
    if (directory := find_directory(name, tracking_uri)) is not None:
        return _inside(directory, checkpoint)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BadInput(f"no directory {name!r}; give a model's directory, a run's folder or id, or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BadInput(f"{name!r} is no directory here, and cannot be had from the hub: {error}") from error


def _inside(path: Path, checkpoint: Checkpoint) -> Path:
    """Return a model's directory itself, or the policy of a run's folder, or of the newest finished run below it."""
    if _is_model(path):
        return path
    if _is_model(path / "policy"):
        return path / "policy" if checkpoint == "last" else _best(path)
    finished = [policy for policy in path.glob("*/policy") if _is_model(policy)]
    if not finished:
        raise BadInput(
            f"{path} has neither {CONFIG} nor {ADAPTER_CONFIG}, nor a finished run with a policy in it; train one "
            f"first, or name another directory"
        )
    newest = max(finished, key=lambda policy: policy.stat().st_mtime)
    return newest if checkpoint == "last" else _best(newest.parent)


def _best(run: Path) -> Path:
    """Return the best policy of a run of one stage."""
    found = sorted(policy for policy in run.glob("best/*") if _is_model(policy))
    if len(found) != 1:
        stages = f"{len(found)} stages ({', '.join(policy.name for policy in found)})" if found else "no stage"
        raise BadInput(
            f"{run}/best has the best policy of {stages}, not of one; train with validation.every_n_steps (see "
            f"configs/keep_best.yaml), name one of them, or set checkpoint: last"
        )
    return found[0]


def _is_model(path: Path) -> bool:
    return (path / CONFIG).is_file() or (path / ADAPTER_CONFIG).is_file()


class Weights:
    """The tensors of a model directory in Hugging Face format, in one safetensors file or several.

    A tensor that is tied to another one is left out, as ``save_pretrained`` does; some writers keep it.
    """

    def __init__(self, directory: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.directory = directory
        self._open = ExitStack()
        self._files: dict[str, Any] = {}
        for path in self._paths():
            try:
                file = self._open.enter_context(safe_open(path, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise BadInput(f"cannot read {path}: {error}; save the model again") from error
            self._files |= dict.fromkeys(file.keys(), file)
        with torch.device("meta"):  # shapes only: no memory, no time
            model = AutoModelForCausalLM.from_config(load_config(str(directory), "models"), trust_remote_code=False)
        for name in model.all_tied_weights_keys:  # such as an output layer tied to the embedding
            self._files.pop(name, None)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by name, in sorted order."""
        return {name: tuple(self._files[name].get_slice(name).get_shape()) for name in sorted(self._files)}

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _paths(self) -> list[Path]:
        if (self.directory / INDEX).is_file():
            names = json.loads((self.directory / INDEX).read_text())["weight_map"].values()
            return [self.directory / name for name in sorted(set(names))]
        if (self.directory / SINGLE).is_file():
            return [self.directory / SINGLE]
        raise BadInput(
            f"{self.directory} has neither {SINGLE} nor {INDEX}; save the model with "
            f"save_pretrained of transformers 5, which writes safetensors"
        )
