"""One pass of gradients over a batch of rollouts, in micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from omnithink_pl.distributed.collectives import sum_over_processes
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective, Terms, Totals, kl_estimate
from omnithink_pl.model.logprobs import TokenLogprobs, token_logprobs
from omnithink_pl.model.padding_passes import in_company

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from omnithink_pl.grpo.reference import ReferencePolicy
    from omnithink_pl.rollout.base import Sampling


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
        earlier: ``[N]`` how many of the first tokens an earlier policy sampled.
        old: ``[N, T]`` log-probabilities of the policy that sampled; set by the first update.
        reference: ``[N, T]`` log-probabilities of the reference policy, if there is one; set by the first update.
        importance: ``[N, T]`` weight of each token for having been drawn by the sampler, before its cap; likewise.
    """

    prompts: list[tuple[int, ...]]
    completions: list[list[tuple[int, ...]]]
    tasks: list[str]
    advantages: Tensor
    beta: Tensor
    weights: Tensor
    sampled: Tensor
    earlier: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None
    importance: Tensor | None = None


@dataclass(frozen=True)
class TokenStats:
    """Sums over the tokens of one completion, in one update.

    Args:
        task: Name of the task.
        tokens: Tokens summed over.
        kl: Sum of the estimate of D_KL(pi || pi_ref), nats; ``None`` without a reference.
        entropy: Sum of the policy's entropy, nats.
        clipped: Number of tokens whose ratio the clip held back.
        difference: Sum of the absolute difference between sampler's and trainer's log-probabilities.
        difference_max: The largest of them.
        difference_kl: Sum of the estimate of D_KL(sampler || trainer), nats.
        importance: Sum of the importance weights, before their cap.
        capped: Number of tokens whose weight was cut at the cap.
    """

    task: str
    tokens: float
    kl: float | None
    entropy: float
    clipped: float
    difference: float
    difference_max: float
    difference_kl: float = 0.0
    importance: float = 0.0
    capped: float = 0.0


class UpdatePlan:
    """How a batch of rollouts becomes gradients.

    Args:
        rollouts: Groups with their advantages.
        objective: The objective.
        beta: KL coefficient of each task.
        sampling: How the rollouts were drawn.
        budget: Tokens a micro-batch may hold.
        share_prompt: Compute each prompt once for the completions of its group.
        device: Where the tensors go.
        correction: What to do where the sampler's log-probabilities are not the trainer's.
    """

    def __init__(
        self,
        rollouts: Sequence[ScoredGroup],
        objective: Objective,
        beta: Mapping[str, float],
        sampling: Sampling,
        budget: int,
        share_prompt: bool,
        device: torch.device,
        correction: ImportanceCorrection,
    ) -> None:
        self.objective = objective
        self.sampling = sampling
        self.correction = correction
        self.share_prompt = share_prompt
        self.device = device
        # A group of which nothing could be scored has nothing to say.
        usable = [rollout for rollout in rollouts if rollout.kept]
        lengths = [[len(r.group.completions[i].token_ids) for i in r.kept] for r in usable]
        totals = Totals(*sum_over_processes(Totals.of(lengths), device))
        weights = objective.weights(lengths, sampling.max_tokens, totals) if usable else []
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
            earlier=torch.tensor([rollout.earlier[i] for rollout, i, _ in rows], device=self.device),
        )

    def accumulate(
        self,
        model: PreTrainedModel,
        reference: ReferencePolicy | None,
        backward: Callable[[Tensor], None],
    ) -> tuple[float, list[TokenStats]]:
        """Add the gradient of the whole batch's loss to the parameters.

        Args:
            model: The policy.
            reference: What the KL penalty pulls towards; ``None`` where no task has a penalty.
            backward: Called with the loss of each micro-batch.

        Returns:
            The loss of the batch, over all processes, and one row of statistics per completion of this one.
        """
        self._refer(reference)
        with in_company(model, len(self.portions), backward):
            loss, stats = self._passes(model, backward)
        (whole,) = sum_over_processes([loss], self.device)
        return whole, stats

    def _passes(self, model: PreTrainedModel, backward: Callable[[Tensor], None]) -> tuple[float, list[TokenStats]]:
        """Forward and backward of each micro-batch: this process's part of the loss, and statistics."""
        loss, stats = 0.0, []
        for portion in self.portions:
            now = self._logprobs(model, portion, self.sampling.top_p)
            if portion.old is None or portion.importance is None:
                # Where all weights are still those that sampled, pi_old is the trainer's own view of them; where
                # they are gone, only the sampler's is left.
                gone = torch.arange(now.mask.shape[1], device=self.device) < portion.earlier[:, None]
                portion.old = torch.where(gone, portion.sampled, now.logprobs.detach())
                portion.importance = self.correction(portion.old, portion.sampled, now.mask)
            terms = self.objective(
                now.logprobs,
                portion.old,
                now.logprobs.detach() if portion.reference is None else portion.reference,
                now.mask,
                portion.advantages,
                portion.beta,
                portion.weights,
                self.correction.cut(portion.importance),
            )
            backward(terms.loss)
            loss += float(terms.loss.detach())
            stats += _token_stats(portion, now, terms, self.correction)
        return loss, stats

    def _refer(self, reference: ReferencePolicy | None) -> None:
        """Compute the reference for the whole batch at once: it may have to be fetched, or be the policy itself."""
        if reference is None or all(portion.reference is not None for portion in self.portions):
            return
        with torch.no_grad(), reference.active() as model, in_company(model, len(self.portions)):
            for portion in self.portions:
                # The whole of the reference's distribution: a nucleus of its own could leave the token out.
                portion.reference = self._logprobs(model, portion, top_p=1.0).logprobs

    def _logprobs(self, model: PreTrainedModel, portion: Portion, top_p: float) -> TokenLogprobs:
        return token_logprobs(
            model,
            portion.prompts,
            portion.completions,
            self.sampling.temperature,
            self.share_prompt,
            top_p=top_p,
        )


def _token_stats(
    portion: Portion, now: TokenLogprobs, terms: Terms, correction: ImportanceCorrection
) -> list[TokenStats]:
    assert portion.old is not None
    assert portion.importance is not None
    difference = (portion.sampled - portion.old).masked_fill(~now.mask, 0.0)
    columns = {
        "tokens": now.mask,
        "kl": terms.kl,
        "entropy": now.entropy.masked_fill(~now.mask, 0.0),
        "clipped": terms.clipped,
        "difference": difference.abs(),
        "difference_kl": kl_estimate(difference, torch.zeros_like(difference)),
        "importance": portion.importance.masked_fill(~now.mask, 0.0),
        "capped": (portion.importance > correction.cap) & now.mask,
    }
    sums = torch.stack([column.double().sum(dim=1) for column in columns.values()], dim=1).tolist()
    largest = difference.abs().amax(dim=1).tolist()
    # Without a reference the estimate stands for nothing.
    known = {} if portion.reference is not None else {"kl": None}
    return [
        TokenStats(task=task, difference_max=most, **(dict(zip(columns, row, strict=True)) | known))
        for task, row, most in zip(portion.tasks, sums, largest, strict=True)
    ]


class Part(NamedTuple):
    """Some completions of one group.

    Args:
        group: Index of the group in the batch.
        completions: Indices of the completions in the group, ascending.
    """

    group: int
    completions: tuple[int, ...]


MicroBatch = tuple[Part, ...]


@dataclass(frozen=True)
class _Piece:
    """A part with what it takes up: one packed stretch, or padded rows."""

    part: Part
    rows: int
    longest: int
    packed: bool


def split(
    groups: Sequence[tuple[int, Sequence[int]]], token_budget: int, share_prompt: bool = True
) -> list[MicroBatch]:
    """Divide the completions of a batch, keeping siblings together where they fit.

    With ``share_prompt`` a part is its prompt and its completions, all parts in one row without padding, as
    ``modules.layout.packed`` has it; without, every completion is a row with its own prompt, and rows of like length
    meet in a micro-batch, which saves padding. The result is a function of the lengths alone.

    Args:
        groups: Tokens of the prompt and of each completion, for every group.
        token_budget: Most tokens of a micro-batch, padding included. A completion that exceeds it with its prompt
            goes alone.
        share_prompt: Whether a prompt is computed once for the completions of a part.

    Returns:
        Micro-batches, each of which has at most one part of a group. Every completion occurs exactly
        once; a group without completions does not occur.

    Raises:
        BadInput: If ``token_budget`` is below 1.
    """
    if token_budget < 1:
        raise BadInput(f"model.memory.micro_batch_tokens is {token_budget}; it is at least 1")
    pieces = [
        piece
        for index, (prompt, completions) in enumerate(groups)
        for piece in _pieces(index, prompt, completions, token_budget, share_prompt)
    ]
    batches: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: -piece.longest):
        # Longest first. A padded row joins rows of its own length; where nothing is padded, any gap will do.
        open_batches = batches if share_prompt else batches[-1:]
        joined = next((batch for batch in open_batches if _joins(piece, batch, token_budget)), None)
        if joined is None:
            batches.append([piece])
        else:
            joined.append(piece)
    return [tuple(piece.part for piece in batch) for batch in batches]


def _pieces(group: int, prompt: int, completions: Sequence[int], token_budget: int, share_prompt: bool) -> list[_Piece]:
    """A group whole, or cut where the budget is full, longest completions first."""

    def piece(taken: list[int]) -> _Piece:
        lengths = [completions[index] for index in taken]
        part = Part(group, tuple(sorted(taken)))
        if share_prompt:
            return _Piece(part, 1, prompt + sum(lengths), packed=True)
        return _Piece(part, len(taken), prompt + max(lengths), packed=False)

    pieces: list[_Piece] = []
    taken: list[int] = []
    for index in sorted(range(len(completions)), key=lambda index: -completions[index]):
        if taken and _tokens([piece([*taken, index])]) > token_budget:
            pieces.append(piece(taken))
            taken = []
        taken.append(index)
    return [*pieces, piece(taken)] if taken else pieces


def _joins(piece: _Piece, batch: Sequence[_Piece], token_budget: int) -> bool:
    strangers = all(other.part.group != piece.part.group for other in batch)
    return strangers and _tokens([*batch, piece]) <= token_budget


def _tokens(pieces: Sequence[_Piece]) -> int:
    """Size of the tensor that holds the pieces, padding included."""
    if all(piece.packed for piece in pieces):
        return sum(piece.longest for piece in pieces)
    return sum(piece.rows for piece in pieces) * max(piece.longest for piece in pieces)
