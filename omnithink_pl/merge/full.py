"""Merging full models, tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.merge.magnitudes import trim_threshold
from omnithink_pl.merge.ties import Merged, merge_tensor, task_vector
from omnithink_pl.merge.weights import ShardWriter, Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

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
