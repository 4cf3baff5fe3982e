"""A vLLM server in a process of its own on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnithink_pl.rollout.vllm.server import free_port

READY = "Application startup complete"
ENVIRONMENT = {"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


@contextmanager
def vllm_server(module: str, directory: Path, *arguments: str) -> Iterator[str]:
    """The address of a server of the model in a directory, once it takes requests.

    Args:
        module: What starts it: vLLM's own entry point, or ours.
        directory: The model, with its tokenizer.
        arguments: More of ``vllm serve``.
    """
    port = free_port()
    command = [sys.executable, "-m", module, f"--model={directory}", f"--port={port}", "--host=127.0.0.1"]
    command += ["--dtype=float32", f"--kv-cache-memory-bytes={64 << 20}", *arguments]
    with subprocess.Popen(
        command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if READY in line:
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(said[-40:]))
        # Its pipe must be emptied, or it stops when the pipe is full.
        drain = threading.Thread(target=server.stdout.read, daemon=True)
        drain.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            drain.join()
