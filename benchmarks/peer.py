"""TRL's GRPOTrainer on a batch of given shape. TRL is in the extra ``bench``."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from benchmarks.harness import Lap
from benchmarks.lengths import CACHE_GIB, Kind, PlannedLengths, Plans, plan_requests
from benchmarks.ours import Shape
from omnithink_pl.model.policy import load_tokenizer


def train(shape: Shape, kind: Kind, plans: Plans, micro_batch: int, lap: Lap) -> None:
    """Run TRL's training loop with its defaults, except where the two would differ in work or TRL would lose time.

    Gradient checkpointing is off, numbers are float32, and the model is transformers' own, without our products.

    Args:
        shape: Of a step.
        kind: What samples.
        plans: Lengths of each batch.
        micro_batch: Completions of a gradient pass.
        lap: Called after each step.
    """
    import datasets
    import trl
    from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback

    class Laps(TrainerCallback):
        """Report the end of each step."""

        def on_step_end(self, *args: object, **kwargs: object) -> None:
            lap()

    model = AutoModelForCausalLM.from_pretrained(shape.policy, dtype=torch.float32)
    tokenizer = load_tokenizer(shape.policy)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    with tempfile.TemporaryDirectory() as folder, ExitStack() as settings:
        if kind == "vllm":
            _configure_vllm(settings)
        else:
            PlannedLengths(model, tokenizer.eos_token_id, plans())
        trainer = trl.GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=alternating,
            train_dataset=datasets.Dataset.from_list([{"prompt": list(e.messages)} for e in shape.examples()]),
            args=trl.GRPOConfig(output_dir=folder, use_vllm=kind == "vllm", **arguments(shape, micro_batch)),
            callbacks=[Laps()],
        )
        if kind == "vllm":
            plan_requests(trainer.vllm_generation.llm, plans())
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def arguments(shape: Shape, micro_batch: int) -> dict[str, Any]:
    """Return how TRL trains."""
    return {
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": shape.prompts * shape.group // micro_batch,
        "num_generations": shape.group,
        "max_completion_length": shape.max_tokens,
        "max_steps": shape.steps,
        "learning_rate": 1e-6,
        "gradient_checkpointing": False,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "shuffle_dataset": False,
    }


def alternating(completion_ids: list[list[int]], **kwargs: object) -> list[float]:
    """The reward of our side."""
    return [float(index % 2) for index in range(len(completion_ids))]


def _configure_vllm(settings: ExitStack) -> None:
    """Give TRL's colocated vLLM the settings of our engine, in this process from now on.

    TRL 1.16 passes neither dtype nor compilation nor the size of the cache to vLLM, and cannot load weights where vLLM
    has packed them, as it does on a CPU.
    """
    import vllm._custom_ops as ops

    from omnithink_pl.rollout.vllm.engine import VARIABLES

    os.environ.update(VARIABLES)
    settings.enter_context(torch.compiler.set_stance("force_eager"))
    ops._supports_onednn = False  # so that vLLM does not pack
    from trl.generation import vllm_generation

    own = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": int(CACHE_GIB * 2**30)}
    vllm_generation.LLM = partial(vllm_generation.LLM, **own)
