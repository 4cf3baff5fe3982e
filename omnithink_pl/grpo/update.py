"""Gradients of the objective over a batch of rollouts, in micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank, sum_over_processes
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective, Terms, Totals, kl_estimate
from omnithink_pl.grpo.reference import ReferencePolicy
from omnithink_pl.model.logprobs import TokenLogprobs, token_logprobs
from omnithink_pl.model.memory import MemorySettings
from omnithink_pl.model.micro_batches import balanced_micro_batches, padding_passes
from omnithink_pl.rollout.base import Sampling


@dataclass
class MicroBatch:
    """Some completions of a batch; ``old`` and what follows is set by the first update."""

    prompts: list[tuple[int, ...]]  # token ids of each prompt
    completions: list[list[tuple[int, ...]]]  # token ids of the completions of each prompt
    tasks: list[str]  # ``[N]`` task of each completion
    advantages: Tensor  # ``[N]``
    beta: Tensor  # ``[N]`` KL coefficient
    weights: Tensor  # ``[N]`` weight of the completion's tokens in the batch's loss
    sampled: Tensor  # ``[N, T]`` log-probabilities of the sampler, 0 where padded
    earlier: Tensor  # ``[N]`` number of first tokens that an earlier policy sampled
    old: Tensor | None = None  # ``[N, T]`` log-probabilities of the policy that sampled
    reference: Tensor | None = None  # ``[N, T]`` log-probabilities of the reference policy, if there is one
    importance: Tensor | None = None  # ``[N, T]`` importance weight of each token, before its cap


@dataclass(frozen=True)
class TokenStats:
    """Sums over the tokens of one completion, or of all of a task, in one update."""

    task: str  # name of the task
    tokens: float  # number of tokens
    kl: float | None  # sum of the estimate of D_KL(pi || pi_ref), nats; ``None`` without a reference
    entropy: float  # sum of the policy's entropy, nats
    clipped: float  # number of tokens whose ratio was clipped
    difference: float  # sum of the absolute difference between sampler's and trainer's log-probabilities
    difference_max: float  # the largest of them
    difference_kl: float = 0.0  # sum of the estimate of D_KL(sampler || trainer), nats
    importance: float = 0.0  # sum of the importance weights, before their cap
    capped: float = 0.0  # number of tokens whose weight was capped


def sum_by_task(stats: Iterable[TokenStats]) -> list[TokenStats]:
    """Return one row per task: what processes exchange in every step."""
    tasks: dict[str, TokenStats] = {}
    for row in stats:
        total = tasks.setdefault(row.task, row)
        if total is row:
            continue
        sums = {
            field.name: getattr(total, field.name) + getattr(row, field.name)
            for field in fields(TokenStats)
            if field.name not in {"task", "difference_max"} and getattr(row, field.name) is not None
        }
        tasks[row.task] = replace(total, **sums, difference_max=max(total.difference_max, row.difference_max))
    return list(tasks.values())


class _Row(NamedTuple):
    """What the loss needs of one completion."""

    token_ids: tuple[int, ...]
    sampled: tuple[float, ...]  # log-probabilities of the sampler
    advantage: float
    weight: float  # of its tokens in the batch's loss
    earlier: int  # number of first tokens that an earlier policy sampled


class _Rows(NamedTuple):
    """A prompt and its kept completions: what processes exchange."""

    task: str
    prompt_ids: tuple[int, ...]
    rows: list[_Row]

    @classmethod
    def of(cls, scored: ScoredGroup, weights: Sequence[float]) -> _Rows:
        completions, advantages, earlier = scored.group.completions, scored.advantages, scored.earlier
        rows = [
            _Row(completions[i].token_ids, completions[i].logprobs, advantages[i] or 0.0, weight, earlier[i])
            for i, weight in zip(scored.kept, weights, strict=True)
        ]
        return cls(scored.task, scored.group.prompt_ids, rows)

    @property
    def tokens(self) -> int:
        return len(self.prompt_ids) + sum(len(row.token_ids) for row in self.rows)


class UpdatePlan:
    """The gradient passes over a batch of rollouts.

    Completions are sampled by one process and trained by any: all processes make the same plan of the whole batch, and
    each takes its equal share of the micro-batches.

    A group whose advantages are all 0, of a task without a KL penalty, has no gradient: no pass is spent on it, while
    the weights of the others count it. Tasks with no other group are still observed: a share of them, at most one
    micro-batch of each process, has a forward pass without gradient for the statistics.
    """

    def __init__(
        self,
        rollouts: Sequence[ScoredGroup],
        objective: Objective,
        correction: ImportanceCorrection,
        beta: Mapping[str, float],
        sampling: Sampling,
        memory: MemorySettings,
        device: torch.device,
    ) -> None:
        self.objective = objective
        self.correction = correction
        self.beta = beta
        self.sampling = sampling
        self.memory = memory
        self.device = device
        usable = [group for group in rollouts if group.kept]
        lengths = [[len(group.group.completions[i].token_ids) for i in group.kept] for group in usable]
        # Over all groups, also those that are left out of the passes.
        self.totals = Totals(*sum_over_processes(Totals.of(lengths), device))
        weights = objective.weights(lengths, sampling.max_tokens, self.totals) if usable else []
        own = [_Rows.of(*parts) for parts in zip(usable, weights, strict=True)]
        batch = gather_rows(own)
        trained = [group for group in batch if self._has_gradient(group)]
        tasks = {group.task for group in trained}
        self.trained = self._micro_batches(trained)
        others = [group for group in batch if group.task not in tasks]
        room = memory.micro_batch_tokens * process_count()
        fitting = sum(count <= room for count in accumulate(group.tokens for group in others))
        self.observed = self._micro_batches(others[: max(1, fitting)])[:1]
        self._reference_known = False

    def _has_gradient(self, group: _Rows) -> bool:
        return self.beta[group.task] != 0.0 or any(row.advantage != 0.0 for row in group.rows)

    def _micro_batches(self, groups: Sequence[_Rows]) -> list[MicroBatch]:
        """Return this process's micro-batches of groups that all processes have."""
        sizes = [(len(group.prompt_ids), [len(row.token_ids) for row in group.rows]) for group in groups]
        budget, share_prompt = self.memory.micro_batch_tokens, self.memory.share_prompt
        own = balanced_micro_batches(sizes, budget, share_prompt, process_count())[process_rank()]
        return [self._micro_batch([(groups[part.group], part.completions) for part in parts]) for parts in own]

    def _micro_batch(self, parts: Sequence[tuple[_Rows, tuple[int, ...]]]) -> MicroBatch:
        """Build a micro-batch of groups and the places of their completions among those that are kept."""
        rows = [group.rows[place] for group, places in parts for place in places]
        tasks = [group.task for group, places in parts for _ in places]
        as_tensor = partial(torch.tensor, dtype=torch.float32, device=self.device)
        sampled = [as_tensor(row.sampled) for row in rows]
        return MicroBatch(
            prompts=[group.prompt_ids for group, _ in parts],
            completions=[[group.rows[place].token_ids for place in places] for group, places in parts],
            tasks=tasks,
            advantages=as_tensor([row.advantage for row in rows]),
            beta=as_tensor([self.beta[task] for task in tasks]),
            weights=as_tensor([row.weight for row in rows]),
            sampled=torch.nn.utils.rnn.pad_sequence(sampled, batch_first=True),
            earlier=torch.tensor([row.earlier for row in rows], device=self.device),
        )

    def accumulate(
        self, model: PreTrainedModel, reference: ReferencePolicy | None, backward: Callable[[Tensor], None]
    ) -> tuple[float, list[TokenStats]]:
        """Add the gradient of the whole batch's loss to the parameters; ``backward`` gets each micro-batch's loss.

        Returns:
            The loss of the batch, over all processes, and one row of statistics per completion of this one.
        """
        self._compute_reference(reference)
        loss, stats = 0.0, []
        with padding_passes(model, len(self.trained), backward, self.memory.reduce_once) as passes:
            for batch in self.trained:
                terms, row = self._forward(model, batch)
                passes.backward(terms.loss)
                loss += float(terms.loss.detach())
                stats += row
        with torch.no_grad(), padding_passes(model, len(self.observed)):
            for batch in self.observed:
                stats += self._forward(model, batch)[1]
        if passes.total == 0 and self.totals.completions:
            for parameter in model.parameters():  # so that the optimiser's moments see the step
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        (whole,) = sum_over_processes([loss], self.device)
        return whole, stats

    def _forward(self, model: PreTrainedModel, batch: MicroBatch) -> tuple[Terms, list[TokenStats]]:
        now = self._logprobs(model, batch, self.sampling.top_p)
        if batch.old is None or batch.importance is None:
            # Where all weights are still those that sampled, pi_old is the trainer's own view of them; where
            # they are gone, only the sampler's is left.
            gone = torch.arange(now.mask.shape[1], device=self.device) < batch.earlier[:, None]
            batch.old = torch.where(gone, batch.sampled, now.logprobs.detach())
            batch.importance = self.correction(batch.old, batch.sampled, now.mask)
        terms = self.objective(
            now.logprobs,
            batch.old,
            now.logprobs.detach() if batch.reference is None else batch.reference,
            now.mask,
            batch.advantages,
            batch.beta,
            batch.weights,
            batch.importance.clamp(max=self.correction.cap),
        )
        return terms, _token_stats(batch, now, terms, self.correction)

    def _compute_reference(self, reference: ReferencePolicy | None) -> None:
        """Compute the reference of all micro-batches at once: it may have to be fetched, or be the policy itself."""
        if reference is None or self._reference_known:
            return
        self._reference_known, batches = True, [*self.trained, *self.observed]
        with torch.no_grad(), reference.active() as model, padding_passes(model, len(batches)):
            for batch in batches:
                # The whole of the reference's distribution: a nucleus of its own could leave the token out.
                batch.reference = self._logprobs(model, batch, top_p=1.0).logprobs

    def _logprobs(self, model: PreTrainedModel, batch: MicroBatch, top_p: float) -> TokenLogprobs:
        temperature, share_prompt = self.sampling.temperature, self.memory.share_prompt
        return token_logprobs(model, batch.prompts, batch.completions, temperature, share_prompt, top_p=top_p)


def _token_stats(
    batch: MicroBatch, now: TokenLogprobs, terms: Terms, correction: ImportanceCorrection
) -> list[TokenStats]:
    assert batch.old is not None
    assert batch.importance is not None
    difference = (batch.sampled - batch.old).masked_fill(~now.mask, 0.0)
    columns = {
        "tokens": now.mask,
        "kl": terms.kl,
        "entropy": now.entropy.masked_fill(~now.mask, 0.0),
        "clipped": terms.clipped,
        "difference": difference.abs(),
        "difference_kl": kl_estimate(difference, torch.zeros_like(difference)),
        "importance": batch.importance.masked_fill(~now.mask, 0.0),
        "capped": (batch.importance > correction.cap) & now.mask,
    }
    sums = torch.stack([column.double().sum(dim=1) for column in columns.values()], dim=1).tolist()
    largest = difference.abs().amax(dim=1).tolist()
    # Without a reference the estimate has no meaning.
    known = {} if batch.reference is not None else {"kl": None}
    return [
        TokenStats(task=task, difference_max=most, **(dict(zip(columns, row, strict=True)) | known))
        for task, row, most in zip(batch.tasks, sums, largest, strict=True)
    ]
