"""Our step, and lower bounds of its cost, each as a program of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from benchmarks import ours
from benchmarks.lengths import Kind, PlannedEngine, Plans
from benchmarks.ours import Shape
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.micro_batches import split
from omnithink_pl.model.policy import load_policy, ready_to_train
from omnithink_pl.rollout import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from benchmarks.harness import Lap
    from omnithink_pl.model.policy import Policy

MICRO_BATCH = 8192  # model.memory.micro_batch_tokens


def step(shape: Shape, kind: Kind, plans: Plans, lap: Lap) -> None:
    """Run our whole step, on the same engine as the floor; arguments as of ``floor``."""
    ours.train(shape, lambda policy: None, lap, PlannedEngine(kind, plans))


def floor(shape: Shape, kind: Kind, plans: Plans, learn: bool, lap: Lap) -> None:
    """Generate, then forward and backward: no rewards, no loss, no optimiser, no training loop.

    The engine loads the weights before each batch, as in training: the prompts are the same in every step, and cached
    keys and values of them would cost nothing.

    Args:
        shape: Of each step.
        kind: What samples.
        plans: Begins the lengths of batch after batch.
        learn: Whether there is a forward and backward pass.
        lap: Called after each step.
    """
    policy = _policy(shape)
    engine = PlannedEngine(kind, plans)
    engine.attach(policy)
    prompts = [policy.encode(example.messages) for example in shape.examples()]
    for step in range(shape.steps):
        policy.weights_changed()
        engine.sync()
        seeds = range(step * len(prompts), (step + 1) * len(prompts))
        groups = engine.generate(prompts, Sampling(shape.group, max_tokens=shape.max_tokens), seeds)
        if learn:
            _forward_and_backward(policy.model, prompts, [[c.token_ids for c in group] for group in groups])
        lap()


def _forward_and_backward(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]]
) -> None:
    lengths = [(len(p), [len(c) for c in group]) for p, group in zip(prompts, completions, strict=True)]
    for parts in split(lengths, MICRO_BATCH):
        chosen = [[completions[part.group][i] for i in part.completions] for part in parts]
        token_logprobs(model, [prompts[part.group] for part in parts], chosen).logprobs.sum().backward()
    model.zero_grad()


def products(shape: Shape, completions: Sequence[int], lap: Lap) -> None:
    """Run the matrix products of the linear layers for one batch, forward and backward, and nothing between them.

    Args:
        shape: Of the batch.
        completions: Tokens of each completion.
        lap: Called after each repetition.
    """
    policy = _policy(shape)
    prompts = _prompt_lengths(policy, shape)
    factors = [
        pair
        for layer, rows in linear_layers(policy.model, sum(prompts) + sum(completions), sum(completions))
        for pair in _factors(layer.weight.detach(), rows)
    ]
    for _ in range(shape.steps):
        for left, right, product in factors:
            torch.mm(left, right, out=product)
        lap()


def _factors(weight: torch.Tensor, rows: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return both factors and the product of output, gradient of the input and gradient of the weight."""
    outputs, inputs = weight.shape
    hidden, gradient = weight.new_ones(rows, inputs), weight.new_ones(rows, outputs)
    return [
        (hidden, weight.T, gradient.clone()),
        (gradient, weight, hidden.clone()),
        (gradient.T, hidden, weight.clone()),
    ]


def linear_layers(model: PreTrainedModel, tokens: int, predicted: int) -> list[tuple[torch.nn.Linear, int]]:
    """Return each linear layer, and how many tokens go through it: through the head, those that predict."""
    head = model.get_output_embeddings()
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return [(layer, predicted if layer is head else tokens) for layer in layers]


def linear_flops(model: PreTrainedModel, prompts: Sequence[int], completions: Sequence[int]) -> int:
    """Return the floating-point operations of these products: two per weight, token and product, of which are three."""
    tokens, predicted = sum(prompts) + sum(completions), sum(completions)
    return sum(6 * rows * layer.weight.numel() for layer, rows in linear_layers(model, tokens, predicted))


def attention_flops(model: PreTrainedModel, prompts: Sequence[int], completions: Sequence[int]) -> int:
    """Return those of attention, forward and backward, without scores that the causal mask hides.

    Scores and their product with the values are two operations each for a pair of tokens and a number of a head; the
    backward pass has twice as many products (Dao et al. 2022, "FlashAttention", arXiv 2205.14135, whose recomputation
    is left out).
    """
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 12 * config.num_hidden_layers * config.num_attention_heads * size * pairs(prompts, completions)


def pairs(prompts: Sequence[int], completions: Sequence[int]) -> int:
    """Count pairs of a token and one that it attends to; each prompt counts once, for completions in equal groups."""
    group = len(completions) // len(prompts)
    own = sum(length * (length + 1) // 2 for length in (*prompts, *completions))
    return own + sum(length * prompts[place // group] for place, length in enumerate(completions))


def share_of_batch(shape: Shape, batches: Sequence[Sequence[int]]) -> list[float]:
    """Return all operations of each batch's forward and backward pass, relative to those of ``products``."""
    policy = _policy(shape)
    prompts = _prompt_lengths(policy, shape)
    first = linear_flops(policy.model, prompts, batches[0])
    return [
        (linear_flops(policy.model, prompts, batch) + attention_flops(policy.model, prompts, batch)) / first
        for batch in batches
    ]


def _prompt_lengths(policy: Policy, shape: Shape) -> list[int]:
    return [len(policy.encode(example.messages)) for example in shape.examples()]


def _policy(shape: Shape) -> Policy:
    policy = load_policy(shape.policy)
    ready_to_train(policy.model)
    if torch.cuda.is_available():
        policy.model.cuda()
    return policy
