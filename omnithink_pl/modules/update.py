"""One pass of gradients over a batch of rollouts, in micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnithink_pl.modules.forward import TokenLogprobs, token_logprobs
from omnithink_pl.modules.microbatch import split
from omnithink_pl.modules.scored import ScoredGroup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from omnithink_pl.modules.reference import ReferencePolicy
    from omnithink_pl.objective import Objective


@dataclass
class Portion:
    """One micro-batch: some completions of a batch, with what the objective needs to know of each.

    Args:
        prompts: Token ids of each prompt.
        completions: Token ids of the completions of each prompt.
        tasks: ``[N]`` task of each completion.
        advantages: ``[N]``.
        beta: ``[N]`` KL coefficient.
        weights: ``[N]`` share in the batch's loss.
        sampled: ``[N, T]`` log-probabilities as the sampler gave them, 0 where padded.
        old: ``[N, T]`` log-probabilities of the policy before the first update; set by it.
        reference: ``[N, T]`` log-probabilities of the reference policy; set by the first update.
    """

    prompts: list[tuple[int, ...]]
    completions: list[list[tuple[int, ...]]]
    tasks: list[str]
    advantages: Tensor
    beta: Tensor
    weights: Tensor
    sampled: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None


@dataclass(frozen=True)
class TokenStats:
    """Sums over the tokens of one completion, in one update.

    Args:
        task: Name of the task.
        tokens: Tokens summed over.
        kl: Sum of the estimate of D_KL(pi || pi_ref), nats.
        entropy: Sum of the policy's entropy, nats.
        clipped: Number of tokens whose ratio the clip held back.
        difference: Sum of the absolute difference between sampler's and trainer's log-probabilities.
        difference_max: The largest of them.
    """

    task: str
    tokens: int
    kl: float
    entropy: float
    clipped: int
    difference: float
    difference_max: float


class UpdatePlan:
    """How a batch of rollouts becomes gradients.

    Args:
        rollouts: Groups with their advantages.
        objective: The objective.
        beta: KL coefficient of each task.
        temperature: The rollouts were sampled at this temperature.
        max_tokens: The longest completion that could have been sampled.
        budget: Tokens a micro-batch may hold.
        share_prompt: Compute each prompt once for the completions of its group.
        device: Where the tensors go.
    """

    def __init__(
        self,
        rollouts: Sequence[ScoredGroup],
        objective: Objective,
        beta: Mapping[str, float],
        temperature: float,
        max_tokens: int,
        budget: int,
        share_prompt: bool,
        device: torch.device,
    ) -> None:
        self.objective = objective
        self.temperature = temperature
        self.share_prompt = share_prompt
        self.device = device
        # A group of which nothing could be scored has nothing to say.
        usable = [rollout for rollout in rollouts if rollout.kept]
        lengths = [[len(r.group.completions[i].token_ids) for i in r.kept] for r in usable]
        weights = objective.weights(lengths, max_tokens) if usable else []
        shapes = [(len(r.group.prompt_ids), row) for r, row in zip(usable, lengths, strict=True)]
        self.portions = [
            self._gather([(usable[part.group], weights[part.group], part.completions) for part in micro], beta)
            for micro in split(shapes, budget, share_prompt)
        ]

    def _gather(
        self, parts: list[tuple[ScoredGroup, list[float], tuple[int, ...]]], beta: Mapping[str, float]
    ) -> Portion:
        rows = [(rollout, rollout.kept[k], weights[k]) for rollout, weights, chosen in parts for k in chosen]
        as_tensor = partial(torch.tensor, dtype=torch.float32, device=self.device)
        sampled = [as_tensor(rollout.group.completions[i].logprobs) for rollout, i, _ in rows]
        return Portion(
            prompts=[rollout.group.prompt_ids for rollout, _, _ in parts],
            completions=[
                [rollout.group.completions[rollout.kept[k]].token_ids for k in chosen] for rollout, _, chosen in parts
            ],
            tasks=[rollout.task for rollout, _, _ in rows],
            advantages=as_tensor([rollout.advantages[i] for rollout, i, _ in rows]),
            beta=as_tensor([beta[rollout.task] for rollout, _, _ in rows]),
            weights=as_tensor([weight for _, _, weight in rows]),
            sampled=torch.nn.utils.rnn.pad_sequence(sampled, batch_first=True),
        )

    def accumulate(
        self,
        model: PreTrainedModel,
        reference: ReferencePolicy,
        backward: Callable[[Tensor], None],
    ) -> tuple[float, list[TokenStats]]:
        """Add the gradient of the whole batch's loss to the parameters.

        Args:
            model: The policy.
            reference: What the KL penalty pulls towards.
            backward: Called with the loss of each micro-batch.

        Returns:
            The batch's loss and one row of statistics per completion.
        """
        loss, stats = 0.0, []
        for portion in self.portions:
            now = self._logprobs(model, portion)
            if portion.old is None or portion.reference is None:
                # All weights are still those that sampled: pi_old is the trainer's own view of them.
                portion.old = now.logprobs.detach()
                with torch.no_grad():
                    portion.reference = self._logprobs(reference.model, portion).logprobs
            terms = self.objective(
                now.logprobs,
                portion.old,
                portion.reference,
                now.mask,
                portion.advantages,
                portion.beta,
                portion.weights,
            )
            backward(terms.loss)
            loss += float(terms.loss.detach())
            difference = (portion.sampled - portion.old).abs().masked_fill(~now.mask, 0.0)
            stats += _token_stats(portion.tasks, now.mask, terms.kl, now.entropy, terms.clipped, difference)
        return loss, stats

    def _logprobs(self, model: PreTrainedModel, portion: Portion) -> TokenLogprobs:
        return token_logprobs(model, portion.prompts, portion.completions, self.temperature, self.share_prompt)


def _token_stats(
    tasks: list[str], mask: Tensor, kl: Tensor, entropy: Tensor, clipped: Tensor, difference: Tensor
) -> list[TokenStats]:
    entropy = entropy.masked_fill(~mask, 0.0)
    columns = [mask, kl, entropy, clipped, difference]
    sums = torch.stack([column.double().sum(dim=1) for column in columns], dim=1).tolist()
    largest = difference.amax(dim=1).tolist()
    return [
        TokenStats(task, int(tokens), kl_, entropy_, int(clipped_), difference_, most)
        for task, (tokens, kl_, entropy_, clipped_, difference_), most in zip(tasks, sums, largest, strict=True)
    ]
