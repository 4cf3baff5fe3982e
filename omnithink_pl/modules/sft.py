"""Supervised fine-tuning on (prompt, completion) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from omnithink_pl.policy import load_policy

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
    from torch import Tensor
    from transformers import PreTrainedModel

Pair = tuple[Sequence[int], Sequence[int]]

IGNORED = -100


@final
class SupervisedFineTuning(LightningModule):
    """Maximise the likelihood of completions given their prompts.

    The loss of a batch of pairs (x, y) is the mean over all completion tokens,

        L = - sum_i sum_t log pi(y_{i,t} | x_i, y_{i,<t}) / sum_i |y_i|;

    prompt tokens carry no loss.

    Args:
        policy: ``embedded``, a local directory, or a hub id.
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes a learning-rate schedule, stepped once a batch, from the optimizer.

    Example:
        >>> module = SupervisedFineTuning("embedded")
        >>> trainer.fit(module, loader)  # of lists of (prompt_ids, completion_ids)
    """

    def __init__(
        self,
        policy: str = "embedded",
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.policy = load_policy(policy)
        self.model = self.policy.model.train()
        self.optimizer = optimizer
        self.scheduler = scheduler

    def training_step(self, batch: Sequence[Pair], batch_idx: int) -> Tensor:
        """The loss of a batch of (prompt token ids, completion token ids)."""
        loss = completion_loss(self.model, batch)
        self.log("train/sft/loss", loss.detach(), batch_size=len(batch))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer | OptimizerLRSchedulerConfig:
        """The optimizer, and its schedule if there is one."""
        optimizer = self.optimizer(self.model.parameters())
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"},
        }


def completion_loss(model: PreTrainedModel, pairs: Sequence[Pair]) -> Tensor:
    """Mean negative log-likelihood (nats) of all completion tokens of a batch.

    Rows are padded on the right, where a causal model cannot see the padding, so no attention
    mask is needed.

    Raises:
        ValueError: If a prompt is empty (its last token predicts the first of the completion)
            or no completion has a token.
    """
    if any(not prompt for prompt, _ in pairs) or not any(completion for _, completion in pairs):
        raise ValueError("an SFT batch needs prompts, and a completion, of at least one token; drop the empty rows")
    device = model.device
    rows = [torch.tensor([*prompt, *completion], device=device) for prompt, completion in pairs]
    inputs = pad_sequence(rows, batch_first=True)
    labels = pad_sequence(rows, batch_first=True, padding_value=IGNORED)
    for label, (prompt, _) in zip(labels, pairs, strict=True):
        label[: len(prompt)] = IGNORED
    targets = labels[:, 1:]
    scored = targets != IGNORED
    hidden = model.base_model(inputs[:, :-1], use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[scored]).float()
    return cross_entropy(logits, targets[scored])
