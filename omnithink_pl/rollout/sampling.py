"""Drawing tokens from logits with noise that was drawn beforehand."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(logits: Tensor, noise: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the cumulative distribution at the row's own noise.

    A row's token depends on its own logits and noise alone, so the result does not change
    with the rows that happen to be in the batch beside it.

    Args:
        logits: Of shape [rows, vocabulary], before the temperature.
        noise: Of shape [rows], float64, uniform in [0, 1). Not read when greedy.
        temperature: Logits are divided by it; 0 takes the most likely token.
        top_p: Smallest set of most likely tokens with at least this probability is drawn from.

    Returns:
        Token ids and their natural log-probabilities, both of shape [rows]. Log-probabilities are
        those of the distribution drawn from, renormalised over the nucleus; those of temperature 1 when greedy.
    """
    logits = logits.float()
    if temperature == 0.0:
        tokens = logits.argmax(-1, keepdim=True)
    else:
        logits = logits / temperature if temperature != 1.0 else logits
        if top_p < 1.0:
            logits = logits.masked_fill(~nucleus(logits.softmax(-1), top_p), -torch.inf)
        tokens = _invert(logits.softmax(-1), noise)
    logprobs = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    return tokens.squeeze(-1), logprobs.squeeze(-1)


def _invert(probabilities: Tensor, noise: Tensor) -> Tensor:
    """Tokens of shape [rows, 1] at which the cumulative distribution exceeds the noise."""
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    threshold = noise.unsqueeze(-1) * cumulative[:, -1:]
    # "right" finds the first entry *above* the threshold, so a token of probability 0 is never drawn.
    return torch.searchsorted(cumulative, threshold, right=True).clamp_(max=probabilities.shape[-1] - 1)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The smallest set of most likely tokens with probability at least ``top_p``.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.

    Args:
        probabilities: Of shape [rows, vocabulary].
        top_p: In (0, 1].

    Returns:
        True for the tokens inside, of the same shape; never empty.
    """
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, before < top_p)
