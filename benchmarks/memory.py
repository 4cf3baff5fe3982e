"""Peak memory of log-probabilities, entropy and their backward pass, at the vocabulary of a large model.

python -m benchmarks.memory
python -m benchmarks.memory --device cuda

Counts every tensor from the hidden states on, gradients of hidden states and output embedding included. By default
nothing is allocated or computed: PyTorch runs the same operations on tensors without contents (``FakeTensorMode``);
what a kernel allocates within itself is seen on ``cuda`` only. ``ratio_naive`` says how many times as much the plain
path takes.
"""

from __future__ import annotations

import importlib.util
import weakref
from collections.abc import Callable
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.harness import print_json, print_table
from omnithink_pl.model.logprobs import SampledTokens, head_logprobs

Path = Callable[[Tensor, torch.nn.Linear, Tensor], Tensor]


class LiveBytes(TorchDispatchMode):
    """Count the bytes of live tensors that were created inside, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def count(self, *tensors: Tensor) -> None:
        """Count tensors that existed before."""
        for tensor in tensors:
            if (storage := tensor.untyped_storage()) not in self._known:
                self._known.add(storage)
                self._add(storage.nbytes())

    def ignore(self, *tensors: Tensor) -> None:
        """Leave out tensors that existed before."""
        self._known.update(tensor.untyped_storage() for tensor in tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count its results."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage()) not in self._known:
                self._known.add(storage)
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return result

    def _add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def benchmark(
    tokens: int = 8192, vocabulary: int = 151_936, hidden: int = 1536, device: str = "fake", dtype: str = "float32"
) -> None:
    """Print a table of all sides, and the ratios as one line of JSON.

    Args:
        tokens: Completion tokens of a micro-batch.
        vocabulary: Size of the vocabulary; the default is Qwen2.5's.
        hidden: Size of a hidden state; the default is Qwen2.5-1.5B's.
        device: ``fake`` counts only; ``cpu`` and ``cuda`` compute.
        dtype: Of hidden states and weights.
    """
    sides: dict[str, Path] = {"ours": ours, "naive": naive}
    if importlib.util.find_spec("trl") is not None:
        sides |= {"TRL, selective log-softmax": trl_selective, "TRL, fused head": trl_fused}
    peaks = {
        name: peak(side, tokens, vocabulary, hidden, device, getattr(torch, dtype)) for name, side in sides.items()
    }
    print(f"{tokens} tokens, vocabulary {vocabulary}, hidden {hidden}, {dtype}, {device}")
    rows = [f"{name} | {most / 2**20:.0f} | {gradients / 2**20:.0f}" for name, (most, gradients) in peaks.items()]
    print_table("side | peak, MiB | of it, gradients of hidden states and head", rows)
    if len(sides) == 2:
        print("TRL is not installed: pip install -e '.[bench]'")
    keys = {"naive": "ratio_naive", "TRL, selective log-softmax": "ratio_trl", "TRL, fused head": "ratio_trl_fused"}
    ratios = {keys[name]: peaks[name][0] / peaks["ours"][0] for name in sides if name != "ours"}
    workspace = {name: most - gradients for name, (most, gradients) in peaks.items()}
    print_json(ratios | {"ratio_naive_without_gradients": workspace["naive"] / workspace["ours"]})


def peak(path: Path, tokens: int, vocabulary: int, hidden: int, device: str, dtype: torch.dtype) -> tuple[int, int]:
    """Return the peak of live bytes, and those of the gradients that remain."""
    if device == "fake":
        with FakeTensorMode():
            return peak(path, tokens, vocabulary, hidden, "cpu", dtype)
    head = torch.nn.Linear(hidden, vocabulary, bias=False, device=device, dtype=dtype)
    states = torch.randn(tokens, hidden, device=device, dtype=dtype, requires_grad=True)
    targets = torch.zeros(tokens, dtype=torch.long, device=device)
    live = LiveBytes()
    live.ignore(head.weight, states, targets)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    with live:
        path(states, head, targets).sum().backward()
    gradients = [tensor.grad for tensor in (head.weight, states) if tensor.grad is not None]
    most = torch.cuda.max_memory_allocated() - before if device == "cuda" else live.peak
    return most, sum(gradient.nbytes for gradient in gradients)


def ours(hidden: Tensor, head: torch.nn.Linear, targets: Tensor) -> Tensor:
    """Compute them in chunks."""
    return head_logprobs(head, head.forward, hidden, SampledTokens(targets))[:, 0]


def naive(hidden: Tensor, head: torch.nn.Linear, targets: Tensor) -> Tensor:
    """Compute all logits at once."""
    every = head(hidden).float().log_softmax(-1)
    with torch.no_grad():
        -(every.exp() * every).sum(-1)
    return every.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def trl_selective(hidden: Tensor, head: torch.nn.Linear, targets: Tensor) -> Tensor:
    """Call TRL's functions for models that return logits."""
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    logits = head(hidden)
    with torch.no_grad():
        entropy_from_logits(logits)
    return selective_log_softmax(logits, targets)


def trl_fused(hidden: Tensor, head: torch.nn.Linear, targets: Tensor) -> Tensor:
    """Call what TRL's GRPOTrainer puts in place of a model's head."""
    from trl.trainer import utils

    chunk = utils._CHUNKED_LOGPROB_CHUNK_SIZE
    function = utils._ChunkedLogProbFunction
    return function.apply(hidden, head.weight, None, targets, 1.0, chunk, None, 1.0, ("log_probs", "entropy"))[0]


if __name__ == "__main__":
    auto_cli(benchmark)
