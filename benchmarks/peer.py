"""TRL's GRPOTrainer on a batch of given shape. TRL is in the extra ``bench``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.engines import Kind, Plans, plan_requests, vllm_for_trl
from benchmarks.lengths import PlannedLengths
from benchmarks.ours import Shape
from omnithink_pl.model.policy import load_policy


def train(shape: Shape, kind: Kind, plans: Plans, lap: Callable[[], None]) -> None:
    """Run TRL's whole training loop: its defaults but for what makes the two do the same, and what costs it time.

    Gradient checkpointing is off, numbers are float32, and the whole batch is one micro-batch, as on our side.

    Args:
        shape: Of each step.
        kind: What samples.
        plans: Begins the lengths of batch after batch.
        lap: Called after each step.
    """
    import datasets
    import trl
    from transformers import PrinterCallback, TrainerCallback

    class Laps(TrainerCallback):
        """Says when a step has ended."""

        def on_step_end(self, *args: object, **kwargs: object) -> None:
            lap()

    policy = load_policy(shape.policy)
    policy.tokenizer.pad_token = policy.tokenizer.pad_token or policy.tokenizer.eos_token
    with tempfile.TemporaryDirectory() as folder, ExitStack() as settings:
        if kind == "vllm":
            vllm_for_trl(settings)
        else:
            PlannedLengths(policy.model, policy.eos_id, plans())
        trainer = trl.GRPOTrainer(
            model=policy.model,
            processing_class=policy.tokenizer,
            reward_funcs=length_is_odd,
            train_dataset=datasets.Dataset.from_list([{"prompt": list(e.messages)} for e in shape.examples()]),
            args=trl.GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=shape.rows,
                num_generations=shape.group,
                max_completion_length=shape.max_tokens,
                max_steps=shape.steps,
                learning_rate=1e-6,
                gradient_checkpointing=False,
                bf16=False,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                shuffle_dataset=False,
                use_vllm=kind == "vllm",
            ),
            callbacks=[Laps()],
        )
        if kind == "vllm":
            plan_requests(trainer.vllm_generation.llm, plans())
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def length_is_odd(completion_ids: list[list[int]], **kwargs: object) -> list[float]:
    """The reward of our side."""
    return [float(len(ids) % 2) for ids in completion_ids]
