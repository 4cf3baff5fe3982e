"""The Multi-Task GRPO objective, as pure mathematics on tensors.

J = E[ 1/G sum_i 1/|o_i| sum_t ( min(r A, clip(r, 1 - eps, 1 + eps) A) - beta_k D_KL(pi || pi_ref) ) ]

Equations 3 and 4 of the paper. Each completion carries its own weight in the sum, computed from the
whole batch, so that the loss of a batch is the plain sum of the losses of its micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from omnithink_pl.errors import BadInput


class Totals(NamedTuple):
    """Counts of a batch over all processes, which its means divide by."""

    groups: int  # groups with at least one scored completion
    completions: int  # scored completions
    tokens: int  # their tokens

    @classmethod
    def of(cls, lengths: Sequence[Sequence[int]]) -> Totals:
        """Count the tokens of every scored completion, by group."""
        return cls(sum(map(bool, lengths)), sum(map(len, lengths)), sum(map(sum, lengths)))


class Terms(NamedTuple):
    """The loss of a micro-batch and its diagnostics."""

    loss: Tensor  # scalar to be minimised, with gradient; -J up to a constant
    kl: Tensor  # ``[N, T]`` estimate of D_KL(pi || pi_ref) per token, in nats, without gradient
    clipped: Tensor  # ``[N, T]`` whether the token's ratio is clipped


@dataclass(frozen=True)
class Objective:
    """Clipped surrogate with a KL penalty per task.

    Args:
        clip_low: The ratio is clipped at 1 - clip_low.
        clip_high: The ratio is clipped at 1 + clip_high; above clip_low it is DAPO's clip-higher
            (Yu et al. 2025, arXiv 2503.14476).
        ratio: ``token`` is the paper's equation 4; ``sequence`` is the geometric mean over the
            completion's tokens, GSPO (Zheng et al. 2025, arXiv 2507.18071, equation 7).
        aggregation: ``completion`` means over tokens, then completions, then groups (equation 3);
            ``token`` means over all tokens of the batch (DAPO); ``constant`` divides every
            completion's sum by ``max_tokens`` (Dr. GRPO, arXiv 2503.20783).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    ratio: Literal["token", "sequence"] = "token"
    aggregation: Literal["completion", "token", "constant"] = "completion"

    def __post_init__(self) -> None:
        if not 0 < self.clip_low < 1 or self.clip_high <= 0:
            raise BadInput(
                f"model.objective: clip_low must lie in (0, 1) and clip_high above 0, not "
                f"{self.clip_low} and {self.clip_high}"
            )

    def weights(
        self, lengths: Sequence[Sequence[int]], max_tokens: int, totals: Totals | None = None
    ) -> list[list[float]]:
        """Return the weight of each completion's tokens in the batch's loss, in the shape of ``lengths``.

        Args:
            lengths: Tokens of every scored completion, by group; groups may be empty.
            max_tokens: Longest completion that could have been sampled.
            totals: Of the batch where ``lengths`` is only one process's part of it.
        """
        groups, completions, tokens = totals or Totals.of(lengths)
        if self.aggregation == "token":
            return [[1.0 / tokens for _ in group] for group in lengths]
        if self.aggregation == "constant":
            return [[1.0 / (completions * max_tokens) for _ in group] for group in lengths]
        return [[1.0 / (groups * len(group) * length) for length in group] for group in lengths]

    def __call__(
        self,
        logprobs: Tensor,
        old_logprobs: Tensor,
        reference_logprobs: Tensor,
        mask: Tensor,
        advantages: Tensor,
        beta: Tensor,
        weights: Tensor,
        importance: Tensor | None = None,
    ) -> Terms:
        """Return the loss of a micro-batch.

        Args:
            logprobs: ``[N, T]`` float, log pi(o_t | x, o_<t), with gradient.
            old_logprobs: ``[N, T]`` the same under the policy that sampled.
            reference_logprobs: ``[N, T]`` the same under the reference policy.
            mask: ``[N, T]`` bool, true on the completion's own tokens.
            advantages: ``[N]``.
            beta: ``[N]`` KL coefficient of the completion's task.
            weights: ``[N]`` from :meth:`weights`.
            importance: ``[N, T]`` importance weight of each token, without gradient; all ones if not given. The whole
                bracket is an expectation, so it multiplies the KL term too.
        """
        log_ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0)
        if self.ratio == "sequence":
            log_ratio = sequence_mean(log_ratio, mask)
        ratio, advantage = log_ratio.exp(), advantages[:, None]
        clipped_ratio = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        surrogate = torch.minimum(ratio * advantage, clipped_ratio * advantage)
        kl = kl_estimate(logprobs, reference_logprobs).masked_fill(~mask, 0.0)
        per_token = (surrogate - beta[:, None] * kl).masked_fill(~mask, 0.0)
        if importance is not None:
            per_token = per_token * importance
        loss = -(per_token.sum(dim=1) * weights).sum()
        clipped = (clipped_ratio * advantage < ratio * advantage) & mask
        return Terms(loss, kl.detach(), clipped)


def sequence_mean(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over a completion's tokens at each of them: ``[N, T]`` to ``[N, T]``."""
    mean = log_ratio.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return mean.expand_as(log_ratio)


def kl_estimate(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Return an unbiased, non-negative estimate of D_KL(pi || pi_ref) from tokens sampled from pi, in nats.

    pi_ref/pi - log(pi_ref/pi) - 1, Schulman's k3 (2020, "Approximating KL divergence"), as GRPO has it
    (arXiv 2402.03300, equation 4).
    """
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


@dataclass(frozen=True)
class ImportanceCorrection:
    """Truncated importance sampling from the sampler's distribution q to the trainer's pi_old.

    Tokens come from q, an engine with its own kernels and precision, but the objective is an expectation under
    pi_old. Each token's term is therefore weighted by

        token:     w_t = min( pi_old(o_t) / q(o_t), cap )
        sequence:  w_t = min( (prod_s pi_old(o_s) / q(o_s))^(1/|o|), cap ), the same for every token

    without gradient. ``token`` is Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL
    Training" (the truncation itself: Ionides 2008, "Truncated Importance Sampling"). ``sequence`` takes the
    geometric mean, as GSPO has it (arXiv 2507.18071, equation 7): the plain product shrinks or explodes with the
    length of the completion even where every token agrees.

    Both distributions are those sampled from: at the sampling temperature, renormalised over the nucleus where
    ``top_p`` is below 1.

    Args:
        level: ``none`` trusts the engine; ``token`` or ``sequence`` as above.
        cap: Largest weight; bounds the variance, at the price of a bias.
        alarm: Mean absolute difference, in nats per token, above which a step warns that engine and trainer are not
            the same model.
    """

    level: Literal["none", "token", "sequence"] = "none"
    cap: float = 2.0
    alarm: float = 1e-3

    def __post_init__(self) -> None:
        if self.cap < 1.0:
            raise BadInput(
                f"model.rollouts.correction.cap is {self.cap}; below 1 it would cut agreeing tokens: use 1 or more"
            )
        if self.alarm <= 0.0:
            raise BadInput(f"model.rollouts.correction.alarm is {self.alarm}; use a positive number of nats")

    def __call__(self, trainer: Tensor, sampler: Tensor, mask: Tensor) -> Tensor:
        """Return the weight of each token ``[N, T]``, before the cap.

        Args:
            trainer: ``[N, T]`` log pi_old of the sampled tokens.
            sampler: ``[N, T]`` log q of the same.
            mask: ``[N, T]`` bool, true on the completion's own tokens.
        """
        if self.level == "none":
            return torch.ones_like(trainer)
        log_ratio = (trainer - sampler).detach().masked_fill(~mask, 0.0)
        if self.level == "sequence":
            log_ratio = sequence_mean(log_ratio, mask)
        return log_ratio.exp()

    def warning(self, mean: float, largest: float) -> str:
        """Return a warning about a step's mean and largest absolute difference; empty below the alarm."""
        if mean <= self.alarm:
            return ""
        return (
            f"the engine's log-probabilities differ from the trainer's by {mean:.2g} nats on average, {largest:.2g} at "
            f"most (model.rollouts.correction.alarm is {self.alarm}): weights not synchronised, a stale prefix cache, "
            f"or too coarse a dtype. Compare with model.engine.init_args.dtype=float32, and set "
            f"model.rollouts.correction.level=token"
        )
