"""The measurements in the order of their worth, and what they may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

ROOM = "benchmarks.gpu"


@dataclass(frozen=True)
class Measurement:
    """One question to the machine, answered by a function in a process of its own."""

    name: str
    function: str  # ``module:function`` in this package; called with the case and ``arguments``, yields rows
    seconds: float = 20.0  # what it is expected to take on an H100, the start included
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""  # package without which it is left out


def _stage_a() -> Iterable[Measurement]:
    """With torch and transformers alone."""
    yield Measurement("machine", "machine:machine")
    yield Measurement("layers/bfloat16", "layers:passes", 40)
    yield Measurement("layers/mixed", "layers:passes", 40, {"precision": "bf16-mixed"})
    for kernel in ("varlen", "tiles", "flex"):
        yield Measurement(f"attention/{kernel}", "attention:attention", 30, {"kernel": kernel})
    yield Measurement("layers/tiles", "layers:passes", 40, {"kernel": "tiles"})
    yield Measurement("layers/compiled", "layers:passes", 120, {"variant": "compiled"})
    yield Measurement("layers/liger", "layers:passes", 40, {"variant": "liger"}, needs="liger_kernel")
    yield Measurement("layers/checkpointed", "layers:passes", 40, {"variant": "checkpointed"})
    yield Measurement("kernels", "layers:kernels", 40)
    yield Measurement("memory", "layers:memory", 60)
    yield Measurement("head", "head:head", 40)
    yield Measurement("attention/backends", "attention:backends", 30)
    yield Measurement("layers/float32", "layers:passes", 60, {"precision": "32-true"})
    yield Measurement("layers/long", "layers:passes", 40, {"median": 2000.0})
    yield Measurement("layers/8192", "layers:passes", 40, {"tokens": 8192})
    yield Measurement("layers/32768", "layers:passes", 60, {"tokens": 32768})
    yield Measurement("offload", "offload:offload", 40)


def _stage_b() -> Iterable[Measurement]:
    """Where vLLM and all that training needs are installed."""
    for graphs in (True, False):
        name = "graphs" if graphs else "eager"
        yield Measurement(f"decoding/{name}", "engine:decoding", 120, {"graphs": graphs}, needs="vllm")
    for dtype in ("bfloat16", "float32"):
        yield Measurement(f"parity/{dtype}", "engine:parity", 90, {"dtype": dtype}, needs="vllm")
    for level in (2, 1):
        yield Measurement(f"sleep/level_{level}", "engine:sleep", 90, {"level": level}, needs="vllm")
    yield Measurement("sync", "engine:sync", 90, needs="vllm")
    yield Measurement("fit", "fit:five_steps", 300, needs="vllm")


def plan(only: Iterable[str] = ()) -> list[Measurement]:
    """Return the measurements whose packages are there, all or those that begin with one of some names."""
    every = [*_stage_a(), *_stage_b()]
    chosen = [one for one in every if not (wanted := tuple(only)) or one.name.startswith(wanted)]
    return [one for one in chosen if not one.needs or find_spec(one.needs) is not None]
