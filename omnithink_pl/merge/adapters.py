"""Merging LoRA adapters with peft."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from omnithink_pl.errors import BadInput

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
