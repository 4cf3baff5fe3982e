"""What vLLM 0.32 needs on a machine without a GPU, in one place.

``without_packed_weights`` is the project's only use of a private part of vLLM. Raise vLLM's version only together
with a run of ``tests/vllm/test_sync.py``, which fails where it no longer does what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_packed_weights() -> Iterator[None]:
    """Keep linear weights as they are while a model is built.

    On a CPU vLLM packs them for oneDNN and drops the originals. New weights then cannot be loaded or, with tied
    embeddings, are loaded and silently not used.
    """
    import vllm._custom_ops as ops

    before = ops._supports_onednn
    ops._supports_onednn = False
    try:
        yield
    finally:
        ops._supports_onednn = before


def never_pack_weights() -> None:
    """The same for a process that does nothing but serve."""
    import vllm._custom_ops as ops

    ops._supports_onednn = False
