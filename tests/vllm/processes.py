"""Runs of the command line on vLLM and vLLM servers, each in processes of its own on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import free_port

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
READY = "Application startup complete"
ENVIRONMENT = {"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
ROOT = Path(__file__).resolve().parents[2]
STEPS = 4
SETTINGS = [
    "fit",
    "--config=configs/rollout/vllm.yaml",
    "--name=short",
    "--curriculum.stages=[{tasks: {code: 1, qa: 1}, steps: 2}, {tasks: {math: 1, writing: 1}, steps: 2}]",
    "--data.batch_size=4",
    "--model.sampling.group_size=4",
    "--model.rollouts.updates_per_batch=2",
    "--model.engine.init_args.kv_cache_gib=0.02",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=2",
    "--checkpoints.every_n_steps=1",
]


def run(
    directory: Path, *more: str, launcher: tuple[str, ...] = (), settings: Sequence[str] = SETTINGS
) -> subprocess.CompletedProcess[str]:
    """Run ``main.py``; ``launcher`` are the arguments of Python before it."""
    places = [
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
    ]
    command = [sys.executable, *launcher, "main.py", *settings, *places, *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@contextmanager
def vllm_server(module: str, directory: Path, *arguments: str) -> Iterator[str]:
    """The address of a server of the model in a directory, once it takes requests; ``module`` starts it."""
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
