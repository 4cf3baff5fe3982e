"""What is measured: shapes of a model, a micro-batch of a step, and how a call is timed."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from benchmarks.flops import linear_flops, score_flops
from omnithink_pl.model.attention_varlen import VarlenAttention
from omnithink_pl.model.micro_batches import split_micro_batches
from omnithink_pl.model.packing import Packing, Span

# Qwen2.5-7B's config, but for the number of layers, which a measurement chooses.
SEVEN_B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}
HALF_B = {  # Qwen2.5-0.5B's, for the engine
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "num_hidden_layers": 24,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    # Larger than usual, lest distributions are flat and no error shows. With 0.1, rounding to bfloat16 alone moves
    # log-probabilities by 0.4 nats through 24 layers; with this by 0.05.
    "initializer_range": 0.035,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}
# Heads of 32 and the vocabulary of the packaged tokenizer.
TINY_ENGINE = TINY | {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 1024,
    "initializer_range": 0.1,
}
# Dense bfloat16 products by data sheet, TFLOP/s.
SHEETS = {"H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "A100": 312.0, "B200": 2250.0, "L40S": 362.0}


@dataclass(frozen=True)
class Case:
    """Shapes of a model and of a step."""

    device: str
    shape: dict[str, int]  # of the model that is trained
    engine: dict[str, Any]  # of the one that is sampled from
    layers: tuple[int, int]  # two depths: their difference is the cost of layers alone
    tokens: int  # of a micro-batch
    prompts: int
    group: int
    prompt: int  # tokens of a prompt
    median: float  # of the log-normal lengths of completions
    longest: int  # tokens of a completion
    repeats: int
    policy: str = ""  # what is sampled from instead of random weights: a directory or hub id

    @classmethod
    def of(cls, size: str, device: str, policy: str = "") -> Case:
        """Return the shapes of a size, ``7b`` or ``mini``, on a device."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if size == "mini":
            return cls(device, TINY, TINY_ENGINE, (1, 2), 256, 4, 4, 12, 20.0, 60, 1, policy)
        return cls(device, SEVEN_B, HALF_B, (2, 4), 16384, 16, 16, 300, 600.0, 4096, 5, policy)

    def with_lengths(self, tokens: int | None = None, median: float | None = None) -> Case:
        """Return the same with a micro-batch or completions of another length."""
        return replace(self, tokens=tokens or self.tokens, median=median or self.median)

    def micro_batch(self) -> tuple[list[list[int]], list[list[list[int]]]]:
        """Return prompts and their completions, of random tokens: the first micro-batch of a step."""
        rng = random.Random(0)
        lengths = [
            [min(self.longest, max(1, round(self.median * rng.lognormvariate(0.0, 0.8)))) for _ in range(self.group)]
            for _ in range(self.prompts)
        ]
        parts = split_micro_batches([(self.prompt, group) for group in lengths], self.tokens)[0]

        def drawn(length: int) -> list[int]:
            return [rng.randrange(self.shape["vocab_size"]) for _ in range(length)]

        completions = [[drawn(lengths[part.group][index]) for index in part.completions] for part in parts]
        return [drawn(self.prompt) for _ in parts], completions

    def model(self, layers: int, dtype: torch.dtype) -> PreTrainedModel:
        """Return a model of random weights."""
        torch.manual_seed(0)
        with torch.device(self.device):
            model = Qwen2ForCausalLM(Qwen2Config(**self.shape, num_hidden_layers=layers, torch_dtype=dtype))
        return model.to(dtype).train()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], Any], repeats: int | None = None) -> float:
        """Return the median duration of a call, after two that warm up."""
        taken = []
        for turn in range(2 + (repeats or self.repeats)):
            self.synchronize()
            began = time.perf_counter()
            call()
            self.synchronize()
            if turn > 1:
                taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    @contextmanager
    def peak(self) -> Iterator[Callable[[], float | None]]:
        """Provide the peak of GPU memory inside, less what was there before, in GiB; ``None`` on a CPU."""
        if self.device != "cuda":
            yield lambda: None
            return
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield lambda: digits((torch.cuda.max_memory_allocated() - before) / 2**30)


def shown(spans: tuple[Span, ...]) -> int:
    """Count the pairs of a token and one that it attends to."""
    return sum(span.length * (2 * span.prefix_length + span.length + 1) // 2 for span in spans)


def pass_flops(model: PreTrainedModel, row: Packing) -> int:
    """Return the operations of a forward and backward pass, of which a third are the forward pass's."""
    tokens, predicted = row.tokens.numel(), len(row.targets)
    return linear_flops(model, [tokens - predicted], [predicted]) + score_flops(model.config, shown(row.spans))


def sheet(device: str) -> float | None:
    """Return the card's dense bfloat16 TFLOP/s by its data sheet, if known here."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((rate for card, rate in SHEETS.items() if card in name), None)


def rate(flops: float, seconds: float, device: str) -> dict[str, float | None]:
    """Return TFLOP/s, and their share of the data sheet's."""
    reached, most = flops / seconds / 1e12, sheet(device)
    return {"tflops": digits(reached), "mfu": None if most is None else digits(reached / most)}


def digits(number: float) -> float:
    """Round to four digits."""
    return float(f"{number:.4g}")


@contextmanager
def attention_by(kernel: str) -> Iterator[None]:
    """Attend inside by ``tiles``, or by what is chosen otherwise."""
    own = VarlenAttention.__dict__["supports"]
    if kernel == "tiles":
        VarlenAttention.supports = staticmethod(lambda query: False)  # type: ignore[method-assign]
    try:
        yield
    finally:
        VarlenAttention.supports = own  # type: ignore[method-assign]
