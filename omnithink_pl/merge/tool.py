"""The verb ``merge``: TIES on the full weights of models, or on their LoRA adapters with peft."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Literal, final

import torch
from huggingface_hub import StateDictSplit, split_torch_state_dict_into_shards
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor

from omnithink_pl.errors import BadInput
from omnithink_pl.merge.sameness import check_adapters, check_same
from omnithink_pl.merge.ties import Merged, merge_tensor, task_vector, trim_threshold
from omnithink_pl.merge.weights import ADAPTER_CONFIG, CONFIG, INDEX, Checkpoint, Weights, find_model
from omnithink_pl.tracking.store import find_store
from omnithink_pl.whole import whole_folder

Combination = Literal["ties", "ties_svd"]

_PIECE = 1 << 24  # values that are computed on at the same time: 64 MB in float32
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}


@final
@dataclass(frozen=True)
class Merge:
    """Merge policies that were trained from the same base with TIES: trim, elect sign, disjoint mean.

    Args:
        models: The policies, two or more: directories of full models or of LoRA adapters in Hugging Face format;
            folders of runs, such as ``outputs/single_math`` for the newest finished run in it; or runs as MLflow knows
            them, by id or as ``runs:/<id>/policy``, where ``runs:/<id>/best/1_math`` is the best policy of a stage.
        output: Directory that the merged policy is written to, ready for ``from_pretrained``.
        base: The model that all of them were trained from: ``embedded``, a directory or a hub id.
        density: Share of each task vector that is kept, by magnitude; the TIES paper keeps 0.2.
        scale: lambda, by which the merged task vector is multiplied; Omni-Think has 1.
        lora: How adapters are combined: ``ties`` merges their factors, ``ties_svd`` their products.
        shard_gb: Largest size of an output file, in gigabytes.
        checkpoint: Of a run's folder: its ``last`` policy, or the ``best`` of its one stage, which Omni-Think merges
            (section 4.3) and which the run keeps with ``validation.every_n_steps``.
        overwrite: Replace the contents of ``output``.
        tracking_uri: Tracking store of runs that are given by id; ``$MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db``,
            if not given.
    """

    models: list[str]
    output: str
    base: str = "embedded"
    density: float = 0.2
    scale: float = 1.0
    lora: Combination = "ties"
    shard_gb: float = 5.0
    checkpoint: Checkpoint = "last"
    overwrite: bool = False
    tracking_uri: str | None = None

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise BadInput(f"models has {len(self.models)} entries; a merge takes two or more")
        if not 0.0 < self.density <= 1.0:
            raise BadInput(f"density is {self.density}; it is a share, above 0 and at most 1")
        if self.shard_gb <= 0.0:
            raise BadInput(f"shard_gb is {self.shard_gb}; use more than 0")

    def run(self) -> None:
        """Write the merged policy, with a description of the merge in ``merge.json`` beside its weights."""
        output = Path(self.output)
        if output.exists() and not self.overwrite:
            raise BadInput(f"output: {output} exists; choose another, or pass --overwrite=true")
        store = find_store(self.tracking_uri)
        base = find_model(self.base, store)
        models = [find_model(name, store, self.checkpoint) for name in self.models]
        adapters = [(path / ADAPTER_CONFIG).is_file() for path in models]
        if any(adapters) and not all(adapters):
            raise BadInput("models holds full models and adapters; merge the adapters into their base first")
        with whole_folder(output) as folder:
            self._write(base, models, any(adapters), folder)
        Console(highlight=False, soft_wrap=True).print(f"policy      {output}")

    def _write(self, base: Path, models: Sequence[Path], adapters: bool, folder: Path) -> None:
        console = Console(highlight=False, soft_wrap=True)
        described: dict[str, object] = {
            "method": self.lora if adapters else "TIES",
            "base": str(base),
            "models": [str(path) for path in models],
            "density": self.density,
            "scale": self.scale,
        }
        if adapters:
            with console.status("merging adapters"):
                merge_adapters(base, models, folder, self.density, self.scale, self.lora)
        else:
            with Progress(console=console, transient=True) as display:
                report = merge_models(base, models, folder, self, display)
            for path, kept in zip(models, report.kept, strict=True):
                console.print(f"merged      {path}: {kept:.1%} of its values")
            console.print(f"contested   {report.contested:.1%} of the changed values had both signs")
            described |= asdict(report)
        _copy_settings(base, folder, adapter=adapters)
        (folder / "merge.json").write_text(json.dumps(described, indent=2))


def _copy_settings(base: Path, output: Path, adapter: bool) -> None:
    """Copy everything of the base but its weights: configuration (not to an adapter), tokenizer, chat template."""
    for path in base.iterdir():
        weights = path.suffix in _WEIGHTS or path.name.endswith(".index.json")
        config = adapter and path.name in {CONFIG, "generation_config.json"}
        if path.is_file() and not weights and not config:
            shutil.copyfile(path, output / path.name)


@dataclass(frozen=True)
class MergeReport:
    """Statistics of a merge."""

    parameters: int  # values of the merged model
    kept: tuple[float, ...]  # share of each task vector that survived trimming, unchanged values left out
    thresholds: tuple[float, ...]  # smallest magnitude that each model kept
    contested: float  # share of the changed values on whose sign the models disagreed


def merge_models(base: Path, tuned: Sequence[Path], output: Path, settings: Merge, display: Progress) -> MergeReport:
    """Write the TIES merge of several models to a directory.

    Memory holds one tensor of every model and one output file: each tensor is read when its turn comes, and computed
    on in pieces. Models that differ in architecture, names or shapes, or hold values that are not finite, are refused.
    """
    with ExitStack() as stack:
        start = stack.enter_context(Weights(base))
        models = [stack.enter_context(Weights(path)) for path in tuned]
        for model in models:
            check_same(start, model)
        floating = [name for name in start if start[name].is_floating_point()]
        thresholds = [_threshold(start, model, floating, settings.density, display) for model in models]
        counts: list[tuple[int, ...]] = []  # of each tensor: changed, contested, kept of each model
        plan = _divide_into_files(start, models, round(settings.shard_gb * 1e9))
        bar = display.add_task("merging", total=len(start.shapes))
        for file, names in plan.filename_to_tensors.items():
            tensors = {}
            for name in names:
                tensors[name] = start[name]
                if name in floating:
                    versions = [model[name] for model in models]
                    merged = _merge_in_pieces(start[name], versions, thresholds, settings.scale)
                    tensors[name] = merged.tensor
                    counts.append((merged.changed, merged.contested, *merged.kept))
                display.advance(bar)
            save_file(tensors, output / file, metadata={"format": "pt"})
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            (output / INDEX).write_text(json.dumps(index, indent=2))
        size = sum(start[name].numel() for name in floating)
    changed, contested, *kept = (sum(column) for column in zip(*counts, strict=True))
    return MergeReport(size, tuple(count / size for count in kept), tuple(thresholds), contested / max(1, changed))


def _divide_into_files(base: Weights, models: Sequence[Weights], shard_bytes: int) -> StateDictSplit:
    """Plan which tensors go to which file, by their sizes alone, as ``save_pretrained`` does."""
    empty = {}
    for name, shape in base.shapes.items():
        dtype = reduce(torch.promote_types, (model[name].dtype for model in models), base[name].dtype)
        empty[name] = torch.empty(shape, dtype=dtype, device="meta")
    return split_torch_state_dict_into_shards(empty, max_shard_size=shard_bytes)


def _merge_in_pieces(base: Tensor, tuned: Sequence[Tensor], thresholds: Sequence[float], scale: float) -> Merged:
    """Merge a tensor of any size with little memory; each element is merged by itself."""
    columns = (torch.split(one.flatten(), _PIECE) for one in (base, *tuned))
    pieces = [merge_tensor(first, rest, thresholds, scale) for first, *rest in zip(*columns, strict=True)]
    return Merged(
        tensor=torch.cat([piece.tensor for piece in pieces]).view(base.shape),
        kept=tuple(sum(column) for column in zip(*(piece.kept for piece in pieces), strict=True)),
        contested=sum(piece.contested for piece in pieces),
        changed=sum(piece.changed for piece in pieces),
    )


def _threshold(base: Weights, model: Weights, names: Sequence[str], density: float, display: Progress) -> float:
    bar = display.add_task(f"trimming {model.directory}", total=2 * len(names))  # the threshold takes two passes

    def pieces() -> Iterator[Tensor]:
        for name in names:
            columns = (torch.split(weights[name].flatten(), _PIECE) for weights in (base, model))
            yield from (task_vector(before, after) for before, after in zip(*columns, strict=True))
            display.advance(bar)

    try:
        return trim_threshold(pieces, density)
    except ValueError as error:
        raise BadInput(f"models: {model.directory}: {error}; its training has diverged, leave it out") from error


def merge_adapters(
    base: Path, adapters: Sequence[Path], output: Path, density: float, scale: float, combination: Combination
) -> None:
    """Write the TIES merge of several LoRA adapters of one base model, as an adapter, with peft.

    ``ties`` merges the factors A and B separately, which means something only where the adapters began from the same
    A; ``ties_svd`` merges the updates B A and takes their best approximation of the adapters' rank, which does not
    depend on how an update is divided into factors. Unlike full models, every tensor is trimmed by itself. Adapters
    that are not plain LoRA, or differ in rank or modules, are refused.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    check_adapters(base, adapters, same_rank=combination == "ties")
    names = [f"adapter_{number}" for number in range(len(adapters))]
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False), adapters[0], names[0]
    )
    for name, path in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(path, adapter_name=name)
    model.add_weighted_adapter(names, [scale] * len(names), "merged", combination_type=combination, density=density)
    model.save_pretrained(output, selected_adapters=["merged"])
    for path in (output / "merged").iterdir():
        shutil.move(path, output / path.name)
    (output / "merged").rmdir()
