"""The machine itself: what it is, and the rates that all else is held to."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
import transformers

from benchmarks.gpu.case import Case, digits, rate

OPTIONAL = ("flash_attn", "flash_attn_interface", "liger_kernel", "triton", "vllm", "lightning", "pytorch_lightning")


def machine(case: Case) -> Iterator[dict[str, Any]]:
    """Name card and versions; measure matrix products on random data and copies on the device."""
    row: dict[str, Any] = {"python": platform.python_version(), "transformers": transformers.__version__}
    row |= {"torch": torch.__version__, "installed": [name for name in OPTIONAL if find_spec(name)]}
    if case.device == "cuda":
        card = torch.cuda.get_device_properties(0)
        row |= {"card": card.name, "capability": f"{card.major}.{card.minor}", "cuda": torch.version.cuda}
        row |= {"memory_gib": digits(card.total_memory / 2**30)}
        row |= {"flash": torch.backends.cuda.is_flash_attention_available()}
    yield row
    side = 8192 if case.device == "cuda" else 256
    for name, dtype in (("bfloat16", torch.bfloat16), ("tf32", torch.float32), ("float32", torch.float32)):
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"  # in the end off, as PyTorch has it
        left, right = (torch.randn(side, side, device=case.device, dtype=dtype) for _ in range(2))
        taken = case.seconds(lambda a=left, b=right: a @ b)  # type: ignore[misc]
        yield {"product": name, "side": side, **rate(2 * side**3, taken, case.device)}
    source = torch.empty(2**30 if case.device == "cuda" else 2**20, device=case.device, dtype=torch.int8)
    target = torch.empty_like(source)
    copied = case.seconds(lambda: target.copy_(source))
    yield {"copy_gib_per_second": digits(2 * source.nbytes / copied / 2**30), "counted": "read and written"}
