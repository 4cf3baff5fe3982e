"""``main.py merge``: several policies of one base into one."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, final

from rich.console import Console
from rich.progress import Progress, TaskID

from omnithink_pl.errors import BadInput
from omnithink_pl.merge.adapters import Combination, merge_adapters
from omnithink_pl.merge.find import ADAPTER, find_model
from omnithink_pl.merge.full import MergeReport, merge_models

if TYPE_CHECKING:
    from collections.abc import Sequence


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
