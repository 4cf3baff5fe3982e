"""Runs of the command line in several processes, as torchrun starts them, joined by gloo."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from callbacks.checkpoints import Checkpoints
from main import main
from omnithink_pl.distributed import fsdp
from omnithink_pl.model.sharded_checkpoint import read_full

# One task, and nothing that needs workers, a store or figures: what is tested here has no part in them.
QA = """{qa: {class_path: omnithink_pl.tasks.QA, init_args: {source:
    {class_path: omnithink_pl.embedded.EmbeddedQA}}}}"""
SETTINGS = [
    "fit",
    "--name=short",
    "--trainer.accelerator=cpu",
    "--trainer.logger=false",
    f"--data.tasks!={QA}",
    "--data.batch_size=4",
    "--curriculum.stages=[{tasks: {qa: 1}, steps: 4}]",
    "--model.kl.beta!={qa: 0.1}",
    "--model.kl.reference=stage",
    "--model.sampling.group_size=4",
    "--model.sampling.max_tokens=24",
    "--model.rollouts.updates_per_batch=2",
    "--model.memory.micro_batch_tokens=200",
    # AdamW makes a step of a gradient's rounding where there is little else: see EXACT.
    "--model.optimizer=torch.optim.SGD",
    "--model.optimizer.init_args.lr=0.05",
    "--model.optimizer.init_args.momentum=0.9",
    "--evaluation.evaluator.prompts=3",
    "--evaluation.evaluator.samples=1",
    "--evaluation.evaluator.max_tokens=24",
    "--checkpoints.every_n_steps=1",
]
SHARDED = ["--config=configs/scale/fsdp.yaml", "--trainer.strategy.init_args.data_parallel_size=2"]
LORA = ["--model.adapter={rank: 4, alpha: 16}", "--model.optimizer.init_args.lr=0.5"]
DDP = ["--trainer.strategy=ddp"]
# AdamW with its default epsilon of 1e-8, which float64's rounding (1e-16 of the gradient) is far below. As a plugin,
# because Lightning refuses `precision: 64-true` for a sharded model.
EXACT = [
    "--trainer.plugins=[{class_path: lightning.pytorch.plugins.precision.DoublePrecision}]",
    "--model.optimizer={class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3, weight_decay: 0.01}}",
    "--curriculum.stages=[{tasks: {qa: 1}, steps: 2}]",
]
EQUAL = 1e-6
FAR = 1e-3  # what training moves the weights by, at least


class DieSaving(L.Callback):
    """Kills the second process in a step's saving, when it has written its parts."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.steps_done == self.step and trainer.global_rank == 1:
            write = fsdp.write_parts

            def die(*args: Any) -> None:
                write(*args)
                os.kill(os.getpid(), signal.SIGKILL)

            fsdp.write_parts = die


class KeepCheckpoint(L.Callback):
    """Copies ``last.ckpt`` to ``kept`` when a step begins: what the run would have been resumed from."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.steps_done == self.step and trainer.is_global_zero:
            (checkpoints,) = (one for one in trainer.callbacks if isinstance(one, Checkpoints))
            copy_checkpoint(checkpoints.path, checkpoints.path.parent / "kept")


def keeping(step: int) -> str:
    return f"--trainer.callbacks=[{{class_path: tests.distributed.ranks.KeepCheckpoint, init_args: {{step: {step}}}}}]"


def copy_checkpoint(path: Path, folder: Path) -> None:
    """Copy a checkpoint with its parts, if it has any."""
    folder.mkdir(parents=True)
    for found in path.parent.glob(f"{path.name}*"):
        (shutil.copytree if found.is_dir() else shutil.copy)(found, folder / found.name)


def put_kept(before: Path, directory: Path, step: int = 2) -> None:
    """Put the checkpoint that another run has kept where a run looks for its own."""
    (kept,) = before.glob("short/*/kept/last.ckpt")
    copy_checkpoint(kept, directory / "short" / "1")
    assert checkpoint(directory)["steps_done"] == step


def run(directory: Path, *more: str, ranks: int = 1, settings: Sequence[str] = SETTINGS) -> list[int | None]:
    """Run the command line in processes of their own; return their exit codes, negative where a signal ended one."""
    arguments = [*settings, *more, f"--trainer.default_root_dir={directory}", f"--trainer.devices={ranks}"]
    return in_processes(ranks, lambda rank: main(arguments))


def in_processes(ranks: int, work: Callable[[int], object]) -> list[int | None]:
    """Do work in forks with the environment that torchrun gives; return their exit codes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    def child(rank: int) -> None:
        if ranks > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": str(ranks)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ |= {"TORCHELASTIC_RUN_ID": "tests"}
        torch.set_num_threads(1)
        work(rank)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=child, args=(rank,)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def checkpoint(directory: Path) -> dict[str, Any]:
    (path,) = directory.glob("short/*/last.ckpt")
    return read_full(path)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)
