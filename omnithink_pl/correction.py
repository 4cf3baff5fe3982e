"""When the engine that samples is not quite the model that is trained: how far apart, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from omnithink_pl.errors import BadInput
from omnithink_pl.objective import sequence_mean


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
            raise BadInput(f"model.correction.cap is {self.cap}; below 1 it would cut agreeing tokens: use 1 or more")
        if self.alarm <= 0.0:
            raise BadInput(f"model.correction.alarm is {self.alarm}; use a positive number of nats")

    def __call__(self, trainer: Tensor, sampler: Tensor, mask: Tensor) -> Tensor:
        """The weight of each token, before the cap.

        Args:
            trainer: ``[N, T]`` log pi_old of the sampled tokens.
            sampler: ``[N, T]`` log q of the same.
            mask: ``[N, T]`` bool, true on the completion's own tokens.

        Returns:
            ``[N, T]``, all ones where ``level`` is ``none``; :meth:`cut` applies the cap.
        """
        if self.level == "none":
            return torch.ones_like(trainer)
        log_ratio = (trainer - sampler).detach().masked_fill(~mask, 0.0)
        if self.level == "sequence":
            log_ratio = sequence_mean(log_ratio, mask)
        return log_ratio.exp()

    def cut(self, weights: Tensor) -> Tensor:
        """Weights no larger than the cap."""
        return weights.clamp(max=self.cap)

    def warning(self, mean: float, largest: float) -> str:
        """What to say about a step's mean and largest absolute difference; empty when all is well."""
        if mean <= self.alarm:
            return ""
        return (
            f"the engine's log-probabilities differ from the trainer's by {mean:.2g} nats on average, {largest:.2g} at "
            f"most (model.correction.alarm is {self.alarm}): weights not synchronised, a stale prefix cache, or too "
            f"coarse a dtype. Compare with model.engine.init_args.dtype=float32, and set model.correction.level=token"
        )
