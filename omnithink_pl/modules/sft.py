"""Supervised fine-tuning on completions that are worth imitating."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, TypeAlias, final

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from transformers import PreTrainedModel

from omnithink_pl.distributed.collectives import (
    gather_rows,
    no_gradient_sync,
    process_count,
    process_rank,
    sum_over_processes,
)
from omnithink_pl.endings import no_silent_end
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.failures import FailurePolicy
from omnithink_pl.model.adapter import LoRA
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.memory import MemorySettings
from omnithink_pl.model.micro_batches import balanced_micro_batches, padding_passes
from omnithink_pl.model.precision import computing
from omnithink_pl.modules.base import TrainingModule
from omnithink_pl.rollout.agreement import short_prompts
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example

Pair: TypeAlias = tuple[list[int], list[int]]  # token ids of a prompt and its completion


@final
class SupervisedFineTuning(TrainingModule):
    """Maximise the likelihood of completions given their prompts.

    The loss of a batch of pairs (x, y) is the mean over all completion tokens,

        L = - sum_i sum_t log pi(y_{i,t} | x_i, y_{i,<t}) / sum_i |y_i|;

    prompt tokens carry no loss. What is imitated is the ``reference`` of an example, a text; ``data.demonstrations``
    gives such examples.

    Args:
        engine: Samples the completions of evaluations.
        tasks: The tasks by name; comes from ``data.tasks``.
        optimizer: Builds the optimiser from the policy's parameters.
        policy: ``embedded``, a directory, or a hub id, in Hugging Face format.
        adapter: Train low-rank adapters beside the frozen policy; all of its weights if not given.
        max_tokens: Longest completion when the policy is evaluated on benchmarks.
        memory: Memory against speed; results do not depend on it.
        max_grad_norm: The gradient is scaled down to this norm.
        failures: What happens when rewards cannot be computed in evaluations.
        seed: Of the sampling in evaluations; comes from ``seed_everything``.
        chat_template_kwargs: Arguments of the policy's chat template, such as ``{enable_thinking: false}`` for Qwen3.
        trust_remote_code: Run Python code that comes with the policy, with all that this user may do: its author can
            read keys and change files. Only for code that you have read; false refuses a policy that needs it.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        optimizer: OptimizerCallable,
        policy: str = "embedded",
        adapter: LoRA | None = None,
        max_tokens: int = 56,
        memory: MemorySettings = MemorySettings(),  # noqa: B008  (frozen)
        max_grad_norm: float = 1.0,
        failures: FailurePolicy = FailurePolicy(),  # noqa: B008  (frozen)
        seed: int = 0,
        chat_template_kwargs: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        sampling = Sampling(max_tokens=max_tokens)
        super().__init__(
            engine, tasks, optimizer, policy, adapter, sampling, memory, max_grad_norm, failures, seed,
            chat_template_kwargs, trust_remote_code,
        )  # fmt: skip

    def on_fit_start(self) -> None:
        """Check every demonstration against the context, attach the engine, and check that they agree."""
        prompts = short_prompts(map(self.checked_prompt, self.trainer.datamodule.train))  # type: ignore[attr-defined]
        self.attach()
        self.check_policy(prompts, share_prompt=False)

    def checked_prompt(self, example: Example) -> list[int]:
        """Return the token ids of an example's prompt; refuse one that cannot be imitated."""
        if not isinstance(example.reference, str):
            raise BadInput(
                f"data.tasks.{example.task}, row {example.uid}: its reference is no text to imitate; set "
                f"data.demonstrations to a data set that `predict` wrote"
            )
        prompt, completion = self.tokens(example)
        length = len(prompt) + len(completion)
        if length > self.policy.context:
            raise BadInput(
                f"data.demonstrations, {example.task} row {example.uid}: prompt and completion have {length} tokens, "
                f"more than the policy's context of {self.policy.context}; drop the row or take another policy"
            )
        return prompt

    def tokens(self, example: Example) -> Pair:
        """Token ids of the prompt, and of the completion with its EOS.

        Raises:
            BadInput: If the text begins otherwise than the chat template does.
        """
        try:
            text = self.policy.chat.continuation(str(example.reference))
        except BadInput as error:
            raise BadInput(f"data.demonstrations, {example.task} row {example.uid}: {error}") from error
        completion = self.policy.tokenizer.encode(text, add_special_tokens=False)
        return self.policy.encode(example.messages), [*completion, self.policy.eos_id]

    @no_silent_end("a step")
    def training_step(self, batch: list[Example], batch_idx: int) -> None:
        """Update on a batch of demonstrations, and log."""
        self.watch.begin()
        with self.watch.timed("update"):
            loss, tokens, norm = self.update([self.tokens(example) for example in batch])
        seconds = self.watch.seconds["update"]
        speed = {"train/seconds/update": seconds, "train/tokens_per_second": tokens / seconds}
        self.send({"train/loss": loss, "train/grad_norm": norm} | speed)

    def update(self, pairs: Sequence[Pair]) -> tuple[float, int, float]:
        """Take one optimiser step; return the loss, the completion tokens of all processes, and the gradient norm."""
        pairs = gather_rows(list(pairs))  # of the whole batch: each process takes its equal share of the work
        total = sum(len(completion) for _, completion in pairs)
        sizes = [(len(x), [len(y)]) for x, y in pairs]
        budget, ranks = self.memory.micro_batch_tokens, process_count()
        batches = balanced_micro_batches(sizes, budget, share_prompt=False, processes=ranks)[process_rank()]
        loss = 0.0
        with (
            self.barrier.guard(),
            no_gradient_sync(self.trainer.model),
            computing(self.model, self.policy.compute),
            padding_passes(self.model, len(batches), self.manual_backward, self.memory.reduce_once) as passes,
        ):
            for parts in batches:
                own = [pairs[part.group] for part in parts]
                share = completion_loss(self.model, own) * (sum(len(y) for _, y in own) / total)
                passes.backward(share)
                loss += float(share.detach())
        norm = self.apply_gradients(loss)
        self.finish_step()
        (whole,) = sum_over_processes([loss], self.device)
        return whole, total, norm

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the step."""
        self.save_progress(checkpoint)

    def on_load_checkpoint(self, checkpoint: MutableMapping[str, Any]) -> None:
        """Restore it."""
        self.load_progress(checkpoint)


def completion_loss(model: PreTrainedModel, pairs: Sequence[Pair]) -> Tensor:
    """Mean negative log-likelihood (nats) of all completion tokens of a batch.

    Every completion is a padded row of its own, so any causal language model will do.

    Raises:
        ValueError: If a prompt is empty (its last token predicts the first of the completion)
            or no completion has a token.
    """
    if any(not prompt for prompt, _ in pairs) or not any(completion for _, completion in pairs):
        raise ValueError("an SFT batch needs prompts, and a completion, of at least one token; drop the empty rows")
    prompts, completions = zip(*pairs, strict=True)
    found = token_logprobs(model, prompts, [[completion] for completion in completions], share_prompt=False)
    return -found.logprobs.sum() / found.mask.sum()
