"""What every process of a vLLM server runs first, through the entry point ``vllm.general_plugins``."""

from __future__ import annotations

import os

# Set by rollout/vllm/serve.py: other uses of vLLM in the same environment are left alone.
MARK = "OMNITHINK_VLLM_SERVER"


def prepare() -> None:
    """Register the transport of weight syncs and keep weights loadable, in a server's processes only."""
    if os.environ.get(MARK) != "1":
        return
    from omnithink_pl.rollout.vllm.loading import never_pack_weights
    from omnithink_pl.rollout.vllm.transfer import register

    never_pack_weights()
    register()
