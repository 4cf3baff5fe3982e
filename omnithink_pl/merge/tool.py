"""Merging LoRA adapters with peft."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import torch
from rich.console import Console
from rich.progress import Progress, TaskID

from omnithink_pl.errors import BadInput
from omnithink_pl.merge.ties import Merged, merge_tensor, task_vector, trim_threshold
from omnithink_pl.merge.weights import ADAPTER, ShardWriter, Weights, find_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


Combination = Literal["ties", "ties_svd"]


def merge_adapters(
    base: Path, adapters: Sequence[Path], output: Path, density: float, scale: float, combination: Combination
) -> None:
    """Write the TIES merge of several LoRA adapters of one base model, as an adapter.

    peft's own ``add_weighted_adapter`` does it. ``ties`` merges the factors A and B apart, which means something only
    where the adapters began from the same A; ``ties_svd`` merges the updates B A and takes their best approximation
    of the adapters' rank, which does not depend on how an update is divided into factors.

    Args:
        base: Directory of the model that the adapters belong to.
        adapters: Directories with ``adapter_config.json``.
        output: Where the merged adapter goes; exists.
        density: Share of each tensor that is kept; peft trims every tensor by itself.
        scale: lambda.
        combination: See above.

    Raises:
        BadInput: If an adapter is not LoRA, or the adapters differ in rank or modules.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = [_settings(path) for path in adapters]
    for path, own in zip(adapters, settings, strict=True):
        for key in ("r", "target_modules") if combination == "ties" else ("target_modules",):
            if _plain(own[key]) != _plain(settings[0][key]):
                raise BadInput(
                    f"models: the adapter {path} has {key} {own[key]}, {adapters[0]} has {settings[0][key]}; merge "
                    f"adapters of one shape"
                )
    names = [f"adapter_{number}" for number in range(len(adapters))]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapters[0], adapter_name=names[0])
    for name, path in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(path, adapter_name=name)
    model.add_weighted_adapter(names, [scale] * len(names), "merged", combination_type=combination, density=density)
    model.save_pretrained(output, selected_adapters=["merged"])
    for path in (output / "merged").iterdir():
        shutil.move(path, output / path.name)
    (output / "merged").rmdir()


def _settings(adapter: Path) -> dict[str, object]:
    settings: dict[str, object] = json.loads((adapter / "adapter_config.json").read_text())
    if settings.get("peft_type") != "LORA":
        raise BadInput(f"models: {adapter} is a {settings.get('peft_type')} adapter; only LoRA can be merged")
    return settings


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, list) else value


_PIECE = 1 << 24  # values that are computed on at the same time: 64 MB in float32
# What must be equal for weights of the same name and shape to mean the same.
_SAME = ("model_type", "num_attention_heads", "num_key_value_heads", "tie_word_embeddings", "hidden_act")


@dataclass(frozen=True)
class MergeReport:
    """What came of a merge.

    Args:
        parameters: Values of the merged model.
        kept: Share of each task vector that survived the trimming; without those that did not change.
        thresholds: Smallest magnitude that each kept.
        contested: Share of the changed values on whose sign the models disagreed.
    """

    parameters: int
    kept: tuple[float, ...]
    thresholds: tuple[float, ...]
    contested: float


def merge_models(
    base: Path,
    tuned: Sequence[Path],
    output: Path,
    density: float,
    scale: float,
    shard_bytes: int,
    progress: Callable[[str, int], None],
) -> MergeReport:
    """Write the TIES merge of several models to a directory.

    Each tensor is read when its turn comes, and computed on in pieces: memory holds one tensor of every model and one
    output file.

    Args:
        base: Directory of the model that all were trained from.
        tuned: Directories of the models.
        output: Where the weights go; exists.
        density: Share of each task vector, over the whole model, that is kept.
        scale: lambda.
        shard_bytes: Size of an output file.
        progress: Told what is being done, and each time a tensor is done how many are to do.

    Raises:
        BadInput: If the models differ in architecture, names or shapes, or hold values that are not finite.
    """
    with ExitStack() as stack:
        start = stack.enter_context(Weights(base))
        models = [stack.enter_context(Weights(path)) for path in tuned]
        for model in models:
            check_same(start, model)
        floating = [name for name in start if start[name].is_floating_point()]
        thresholds = [_threshold(start, model, floating, density, progress) for model in models]
        writer = ShardWriter(output, shard_bytes)
        kept, contested, changed = [0] * len(models), 0, 0
        for name in start:
            tensor = start[name]
            if tensor.is_floating_point():
                pieces = _merge_in_pieces(tensor, [model[name] for model in models], thresholds, scale)
                kept = [sum(column) for column in zip(kept, *(piece.kept for piece in pieces), strict=True)]
                contested += sum(piece.contested for piece in pieces)
                changed += sum(piece.changed for piece in pieces)
                tensor = torch.cat([piece.tensor for piece in pieces]).view(tensor.shape)
            writer.add(name, tensor)
            progress("merging", len(start.shapes))
        writer.close()
        size = sum(start[name].numel() for name in floating)
    return MergeReport(size, tuple(count / size for count in kept), tuple(thresholds), contested / max(1, changed))


def _merge_in_pieces(base: Tensor, tuned: Sequence[Tensor], thresholds: Sequence[float], scale: float) -> list[Merged]:
    columns = (torch.split(one.flatten(), _PIECE) for one in (base, *tuned))
    return [merge_tensor(first, rest, thresholds, scale) for first, *rest in zip(*columns, strict=True)]


def check_same(base: Weights, model: Weights) -> None:
    """Refuse a model that was not trained from the base.

    Raises:
        BadInput: Names the first difference.
    """
    configs = [json.loads((weights.directory / "config.json").read_text()) for weights in (base, model)]
    for key in _SAME:
        ours, theirs = (config.get(key) for config in configs)
        if ours != theirs:
            raise _different(base, model, f"{key} is {theirs!r} instead of {ours!r}")
    for name in sorted(base.shapes.keys() ^ model.shapes.keys()):
        raise _different(base, model, f"it {'lacks' if name in base.shapes else 'also has'} the tensor {name}")
    for name, shape in base.shapes.items():
        if model.shapes[name] != shape:
            raise _different(base, model, f"{name} has the shape {model.shapes[name]} instead of {shape}")


def _different(base: Weights, model: Weights, what: str) -> BadInput:
    return BadInput(
        f"models: {model.directory} was not trained from {base.directory}: {what}; merge models of one base, and name "
        f"that base"
    )


def _threshold(
    base: Weights, model: Weights, names: Sequence[str], density: float, progress: Callable[[str, int], None]
) -> float:
    def pieces() -> Iterator[Tensor]:
        for name in names:
            columns = (torch.split(weights[name].flatten(), _PIECE) for weights in (base, model))
            yield from (task_vector(before, after) for before, after in zip(*columns, strict=True))
            progress(f"trimming {model.directory}", 2 * len(names))

    try:
        return trim_threshold(pieces, density)
    except ValueError as error:
        raise BadInput(f"models: {model.directory}: {error}; its training has diverged, leave it out") from error


@final
class Merge:
    """Merge policies that were trained from the same base with TIES: trim, elect sign, disjoint mean.

    Args:
        models: The policies, two or more: directories of full models or of LoRA adapters in Hugging Face format;
            folders of runs, such as ``outputs/single_math`` for the newest finished run in it; or runs as MLflow knows
            them, by id or as ``runs:/<id>/policy``, where ``runs:/<id>/best/1_math`` is the best policy of a stage.
        output: Directory that the merged policy is written to, ready for ``from_pretrained``.
        base: What all of them were trained from: ``embedded``, a directory or a hub id.
        density: Share of each task vector that is kept, by magnitude; the TIES paper keeps 0.2.
        scale: lambda, by which the merged task vector is multiplied; Omni-Think has 1.
        lora: How adapters are combined: ``ties`` merges their factors, ``ties_svd`` their products.
        shard_gb: Size of an output file, in gigabytes.
        overwrite: Replace what ``output`` holds.
        tracking_uri: Where runs that are given by id are looked up.
    """

    def __init__(
        self,
        models: list[str],
        output: str,
        base: str = "embedded",
        density: float = 0.2,
        scale: float = 1.0,
        lora: Combination = "ties",
        shard_gb: float = 5.0,
        overwrite: bool = False,
        tracking_uri: str = "sqlite:///mlflow.db",
    ) -> None:
        if len(models) < 2:
            raise BadInput(f"models has {len(models)} entries; a merge takes two or more")
        if not 0.0 < density <= 1.0:
            raise BadInput(f"density is {density}; it is a share, above 0 and at most 1")
        if shard_gb <= 0.0:
            raise BadInput(f"shard_gb is {shard_gb}; use more than 0")
        self.models = models
        self.output = Path(output)
        self.base = base
        self.density = density
        self.scale = scale
        self.lora = lora
        self.shard_bytes = round(shard_gb * 1e9)
        self.overwrite = overwrite
        self.tracking_uri = tracking_uri
        self.console = Console()

    def run(self) -> None:
        """Write the merged policy, and beside its weights ``merge.json``, which says what it was made of.

        Raises:
            BadInput: If the models cannot be merged, or ``output`` is taken.
        """
        if self.output.exists() and not self.overwrite:
            raise BadInput(f"output: {self.output} exists; choose another, or pass --overwrite=true")
        base, *models = (find_model(name, self.tracking_uri) for name in (self.base, *self.models))
        adapters = {(path / ADAPTER).is_file() for path in models}
        if len(adapters) > 1:
            raise BadInput("models holds full models and adapters; merge the adapters into their base first")
        scratch = self.output.with_name(self.output.name + ".part")  # so that a merge is either whole or not there
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        report = None
        if adapters == {True}:
            self._merge_adapters(base, models, scratch)
        else:
            report = self._merge(base, models, scratch)
        self._describe(base, models, scratch, report)
        shutil.rmtree(self.output, ignore_errors=True)
        scratch.rename(self.output)
        self.console.print(f"policy      {self.output}", highlight=False, soft_wrap=True)

    def _merge(self, base: Path, models: Sequence[Path], output: Path) -> MergeReport:
        with Progress(console=self.console, transient=True) as display:
            bars: dict[str, TaskID] = {}

            def progress(what: str, total: int) -> None:
                if what not in bars:
                    bars[what] = display.add_task(what, total=total)
                display.advance(bars[what])

            report = merge_models(base, models, output, self.density, self.scale, self.shard_bytes, progress)
        _copy_settings(base, output)
        for path, kept in zip(models, report.kept, strict=True):
            self.console.print(f"merged      {path}: {kept:.1%} of its values", highlight=False, soft_wrap=True)
        self.console.print(f"contested   {report.contested:.1%} of the changed values had both signs", highlight=False)
        return report

    def _merge_adapters(self, base: Path, models: Sequence[Path], output: Path) -> None:
        with self.console.status("merging adapters"):
            merge_adapters(base, models, output, self.density, self.scale, self.lora)
        _copy_settings(base, output, adapter=True)

    def _describe(self, base: Path, models: Sequence[Path], output: Path, report: MergeReport | None) -> None:
        described = {
            "method": "TIES" if report is not None else self.lora,
            "base": str(base),
            "models": [str(path) for path in models],
            "density": self.density,
            "scale": self.scale,
            **(asdict(report) if report is not None else {}),
        }
        (output / "merge.json").write_text(json.dumps(described, indent=2))


def _copy_settings(base: Path, output: Path, adapter: bool = False) -> None:
    """Everything of the base but its weights: configuration, tokenizer, chat template."""
    for path in base.iterdir():
        weights = path.suffix in {".safetensors", ".bin", ".pt", ".pth", ".gguf"} or path.name.endswith(".index.json")
        config = adapter and path.name in {"config.json", "generation_config.json"}
        if path.is_file() and not weights and not config:
            shutil.copyfile(path, output / path.name)
