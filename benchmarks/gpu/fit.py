"""Five real steps through the command line, killed in the third and resumed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gpu.case import Case, digits
from benchmarks.gpu.engine import loaded

ROOT = Path(__file__).resolve().parents[2]
STEPS, KILLED_AFTER = 5, 2
SHOWN = ("train/seconds/", "train/logprob_diff_mean", "train/grad_norm", "train/memory")


def five_steps(case: Case) -> Iterator[dict[str, Any]]:
    """Train, kill with SIGKILL, resume; yield what MLflow has of each step."""
    with TemporaryDirectory() as folder:
        policy = case.policy or saved(case, Path(folder) / "policy")
        command = [*arguments(case, policy, Path(folder))]
        began = time.monotonic()
        with subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr) as process:
            while process.poll() is None and len(steps(Path(folder))) <= KILLED_AFTER:
                time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
        yield {"killed_after_steps": len(steps(Path(folder))), "seconds": digits(time.monotonic() - began)}
        began = time.monotonic()
        code = subprocess.run([*command, "--ckpt_path=last"], cwd=ROOT, stdout=sys.stderr).returncode
        found = steps(Path(folder))
        yield {"resumed_exit_code": code, "steps": len(found), "seconds": digits(time.monotonic() - began)}
        for step, metrics in sorted(found.items()):
            yield {"step": step, **metrics}
        if code or sorted(found) != list(range(1, STEPS + 1)):
            raise RuntimeError(f"the resumed run ended with {code}; steps {sorted(found)} of {STEPS} are in MLflow")


def saved(case: Case, directory: Path) -> str:
    """Save a policy of random weights, as a user's would be."""
    policy = loaded(case, "float32")
    policy.model.save_pretrained(directory)
    policy.tokenizer.save_pretrained(directory)
    return str(directory)


def arguments(case: Case, policy: str, folder: Path) -> list[str]:
    """Return the command line of a run; on a GPU engine and trainer compute in bfloat16."""
    small = case.device == "cpu"
    precision = ["32-true", "float32"] if small else ["bf16-mixed", "bfloat16"]
    return [
        *(sys.executable, "main.py", "fit", "--config=configs/rollout/vllm.yaml", f"--model.policy={policy}"),
        f"--trainer.precision={precision[0]}",
        f"--model.engine.init_args.dtype={precision[1]}",
        f"--model.engine.init_args.kv_cache_gib={0.05 if small else 8}",
        "--model.rollouts.correction.alarm=0.1",
        f"--curriculum.stages=[{{tasks: {{math: 1}}, steps: {STEPS}}}]",
        f"--data.batch_size={2 if small else 16}",
        f"--model.sampling.max_tokens={8 if small else 512}",
        "--model.engine.init_args.max_context=" + ("160" if small else "2048"),
        *(
            "--evaluation.evaluator.prompts=2",
            "--evaluation.evaluator.samples=1",
            "--evaluation.evaluator.max_tokens=8",
        ),
        "--checkpoints.every_n_steps=1",
        f"--trainer.accelerator={'cpu' if small else 'gpu'}",
        f"--trainer.default_root_dir={folder}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{folder}/mlflow.db",
    ]


def steps(folder: Path) -> dict[int, dict[str, float]]:
    """Return the metrics of each step that are in the store."""
    found: dict[int, dict[str, float]] = {}
    if not (folder / "mlflow.db").exists():
        return found
    with closing(sqlite3.connect(folder / "mlflow.db", timeout=30)) as store:
        if not store.execute("select name from sqlite_master where name = 'metrics'").fetchall():
            return found
        for key, step, value in store.execute("select key, step, value from metrics where key like 'train/%'"):
            if key.startswith(SHOWN):
                found.setdefault(step, {})[key] = digits(value)
    return found
