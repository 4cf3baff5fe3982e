"""What a run needs of each GPU, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from omnithink_pl.budget import Machine, Settings

GIB = 2**30
NOTES = {
    "weights": "the policy, with its adapters",
    "gradients": "of what is trained, float32",
    "optimiser": "its state",
    "reference": "a second model; none where every beta is 0, nor with adapters",
    "gathered": "of a sharded model: two layers and the embeddings; all of it while it samples itself",
    "activations": "of one micro-batch, kept for the backward pass",
    "logits": "of a micro-batch, or of the chunk of it that is alive",
    "engine": "its own copy of the weights",
    "cache": "keys and values of the rollouts",
}


def memory_table(parts: Mapping[str, float], machine: Machine) -> Table:
    """GiB on each GPU, by part, with the sum and what is left.

    Args:
        parts: Bytes, from ``omnithink_pl.budget.memory``.
        machine: One GPU.
    """
    table = Table("part", "GiB", "what it is", title="Memory of each GPU", title_justify="left", box=None)
    table.columns[1].justify = "right"
    for name, size in parts.items():
        table.add_row(name, f"{size / GIB:.2f}", NOTES[name])
    total = sum(parts.values()) / GIB
    table.add_section()
    verdict = "fits" if total <= 0.9 * machine.memory_gib else "does not fit with a tenth to spare"
    table.add_row("all", f"{total:.2f}", f"{verdict}, of {machine.memory_gib:g}")
    return table


def speed_table(phases: Mapping[str, float], settings: Settings) -> Table:
    """Seconds of a step, and tokens per second on all GPUs together.

    Args:
        phases: Seconds, from ``omnithink_pl.budget.seconds``.
        settings: Of the run.
    """
    table = Table("phase", "seconds", title="A step at best", title_justify="left", box=None)
    table.columns[1].justify = "right"
    for name, duration in phases.items():
        table.add_row(name, f"{duration:.3g}")
    tokens = settings.prompts * settings.group_size * settings.tokens
    table.add_section()
    table.add_row("tokens per second", f"{tokens / sum(phases.values()):,.0f}")
    return table
