"""Weights in parts of safetensors files: all of them arrive bit for bit, or none that was damaged or lost is loaded."""

from __future__ import annotations

import json
import pickle
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from omnithink_pl.rollout.vllm.weight_parts import WeightAssembler, WeightPart, weight_parts

LIMIT = 1000


def weights() -> dict[str, Tensor]:
    """Some smaller than a part, one of several parts, of several types, and one that is not contiguous."""
    generator = torch.Generator().manual_seed(0)
    return {
        "small": torch.randn(7, generator=generator),
        "half": torch.randn(5, 3, generator=generator).bfloat16(),
        "large": torch.randn(30, 40, generator=generator),
        "turned": torch.randn(4, 6, generator=generator).T,
        "scalar": torch.tensor(float("nan")),
    }


def arrived(parts: Sequence[WeightPart]) -> dict[str, Tensor]:
    assembler = WeightAssembler()
    found: dict[str, Tensor] = {}
    for part in parts:
        found |= assembler.add(part)
    return found


@pytest.mark.parametrize("limit", [64, LIMIT, 1 << 20])
def test_all_weights_arrive_bit_for_bit_through_json(limit: int) -> None:
    sent = weights()
    parts = [WeightPart(**json.loads(json.dumps(asdict(part)))) for part in weight_parts(sent.items(), limit)]
    found = arrived(parts)
    assert found.keys() == sent.keys()
    for name, value in sent.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert pickle.dumps(found[name].contiguous().view(torch.uint8 if value.ndim else value.dtype).tolist()) == (
            pickle.dumps(value.contiguous().view(torch.uint8 if value.ndim else value.dtype).tolist())
        )
    assert all(part.size <= limit for part in parts)
    assert [part.ends_weights for part in parts] == [False] * (len(parts) - 1) + [True]


def test_what_was_lost_repeated_exchanged_or_damaged_is_refused() -> None:
    parts = list(weight_parts(weights().items(), LIMIT))
    large = next(i for i, part in enumerate(parts) if not part.ends_file)
    changed = parts[large].data.replace(parts[large].data[100], "A" if parts[large].data[100] != "A" else "B")
    for wrong, message in [
        ([*parts[:large], *parts[large + 1 :]], f"part {large + 1} .* where part {large} was expected"),
        ([*parts[: large + 1], parts[large]], f"part {large} .* where part {large + 1} was expected"),
        ([*parts[:large], replace(parts[large], data=changed)], f"part {large} .* damaged"),
        ([*parts[:large], replace(parts[large], size=parts[large].size - 1)], f"part {large} .* damaged"),
        ([*parts[: large + 1], replace(parts[-1], number=large + 1)], "in the middle of a file"),
    ]:
        with pytest.raises(ValueError, match=message):
            arrived(wrong)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    data = pickle.dumps(Attack())
    part = WeightPart(0, True, False, len(data), sha256(data).hexdigest(), b64encode(data).decode())
    with pytest.raises(SafetensorError):
        arrived([part])
    assert not (tmp_path / "executed").exists()
