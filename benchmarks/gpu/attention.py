"""Attention over one packed row by each kernel that could compute it, and which of PyTorch's own runs where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.case import Case, digits, rate, shown
from omnithink_pl.model.attention_tiles import TiledAttention
from omnithink_pl.model.attention_varlen import VarlenAttention
from omnithink_pl.model.packing import Span, pack_rows

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH)


def attention(case: Case, kernel: str) -> Iterator[dict[str, Any]]:
    """Time forward and backward of one layer's attention, and hold both to float32.

    Args:
        case: The shapes.
        kernel: ``varlen``, ``tiles`` or ``flex``.
    """
    spans = pack_rows(*case.micro_batch()).spans
    dtype = torch.bfloat16 if case.device == "cuda" else torch.float32
    parts = drawn(case, sum(span.length for span in spans), dtype)
    if kernel == "varlen" and not VarlenAttention.supports(parts[0]):
        yield {"unavailable": "PyTorch's variable-length kernel needs half precision and a GPU since Ampere"}
        return
    learns = kernel != "flex" or case.device == "cuda"  # on a CPU flex_attention has no backward pass
    if not learns:
        parts = tuple(part.detach() for part in parts)
    attend = by_kernel(kernel, spans, torch.device(case.device))
    _, heads, size = parts[0].shape
    flops = 4 * heads * size * shown(spans)
    forward = case.seconds(lambda: attend(*parts))
    both = case.seconds(lambda: attend(*parts).sum().backward()) if learns else None
    yield {
        "kernel": kernel,
        "tokens": len(parts[0]),
        "spans": len(spans),
        "gflop_forward": digits(flops / 1e9),
        "forward_ms": digits(1000 * forward),
        "forward": rate(flops, forward, case.device),
        "backward_ms": None if both is None else digits(1000 * (both - forward)),
        "both": None if both is None else rate(3 * flops, both, case.device),
    }
    exact = TiledAttention.of(spans, torch.device(case.device))
    yield {"largest_difference_from_float32": differences(attend, exact, parts, learns)}


def by_kernel(kernel: str, spans: tuple[Span, ...], device: torch.device) -> Attend:
    """Return attention over a row by one kernel."""
    if kernel == "flex":
        return flex(spans, device)
    kind: Any = VarlenAttention if kernel == "varlen" else TiledAttention
    return partial(kind.of(spans, device).attend, scale=None)


def drawn(case: Case, tokens: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return random queries, keys and values ``[tokens, heads, size]``."""
    heads, keys = case.shape["num_attention_heads"], case.shape["num_key_value_heads"]
    size = case.shape["hidden_size"] // heads
    generator = torch.Generator(case.device).manual_seed(0)
    return tuple(
        torch.randn(tokens, count, size, generator=generator, device=case.device, dtype=dtype).requires_grad_()
        for count in (heads, keys, keys)
    )


def flex(spans: tuple[Span, ...], device: torch.device) -> Attend:
    """Return ``flex_attention`` over the row, compiled on a GPU: the shared prompt is a part of the block mask."""
    lengths = torch.tensor([span.length for span in spans])
    starts = [span.start for span in spans]
    of_prompt = torch.tensor([starts.index(span.prefix) if span.prefix_length else i for i, span in enumerate(spans)])
    own = torch.arange(len(spans)).repeat_interleave(lengths).to(device)
    prompt = of_prompt.repeat_interleave(lengths).to(device)

    def mask(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & ((own[key] == own[query]) | (own[key] == prompt[query]))

    blocks = create_block_mask(mask, None, None, len(own), len(own), device=str(device))
    call = torch.compile(flex_attention, dynamic=False) if device.type == "cuda" else flex_attention

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows = (part.transpose(0, 1).unsqueeze(0) for part in (query, key, value))
        return call(*rows, block_mask=blocks, enable_gqa=True).squeeze(0).transpose(0, 1)

    return attend


def differences(attend: Attend, exact: TiledAttention, parts: tuple[Tensor, ...], learns: bool) -> dict[str, float]:
    """Return the largest differences of output and gradients from float32, relative to the largest number of each."""
    found, expected = [], []
    for own, call, numbers in ((found, attend, parts), (expected, partial(exact.attend, scale=None), None)):
        taken = numbers or tuple(part.detach().float().requires_grad_() for part in parts)
        output = call(*taken)
        own.append(output.detach())
        if learns:
            weights = torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output)
            own += torch.autograd.grad((output.float() * weights).sum(), taken)
    names = ("output", "query", "key", "value")
    return {
        name: digits(float((a.float() - b).abs().max() / b.abs().max()))
        for name, a, b in zip(names, found, expected, strict=False)
    }


def backends(case: Case) -> Iterator[dict[str, Any]]:
    """Try each of PyTorch's kernels on the largest tile of each kind: causal, and with a mask; grouped heads or not."""
    spans = pack_rows(*case.micro_batch()).spans
    tiles = TiledAttention.of(spans, torch.device(case.device)).tiles
    heads, keys = case.shape["num_attention_heads"], case.shape["num_key_value_heads"]
    size = case.shape["hidden_size"] // heads
    dtypes = (torch.bfloat16, torch.float32) if case.device == "cuda" else (torch.float32,)
    for masked in (False, True):
        kind = [tile for tile in tiles if (tile.mask is not None) == masked]
        if not kind:
            continue
        tile = max(kind, key=lambda tile: tile.queries.numel() * tile.keys.shape[1])
        for dtype in dtypes:
            for grouped in (True, False):
                others = keys if grouped else heads
                shapes = ((heads, tile.queries), (others, tile.keys), (others, tile.keys))
                rows = [
                    torch.randn(len(index), count, index.shape[1], size, device=case.device, dtype=dtype)
                    for count, index in shapes
                ]
                described = {"masked": masked, "dtype": str(dtype)[6:], "grouped": grouped, "rows": list(rows[0].shape)}
                for backend in BACKENDS:
                    yield described | {"backend": backend.name, **tried(case, backend, rows, tile.mask, grouped)}


def tried(case: Case, backend: SDPBackend, rows: list[Tensor], mask: Tensor | None, grouped: bool) -> dict[str, Any]:
    """Return the milliseconds of a kernel, or that it refuses."""

    def call() -> Tensor:
        return scaled_dot_product_attention(*rows, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)

    try:
        with sdpa_kernel(backend):
            return {"forward_ms": digits(1000 * case.seconds(call))}
    except RuntimeError as error:  # PyTorch's "No available kernel", or out of memory
        return {"refused": str(error).partition("\n")[0][:120]}
