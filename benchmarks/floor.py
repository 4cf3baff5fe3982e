"""Our step, and lower bounds of its cost, each as a program of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks import ours
from benchmarks.flops import attention_flops, linear_flops, linear_layers
from benchmarks.harness import Lap
from benchmarks.lengths import Kind, PlannedEngine, Plans
from benchmarks.ours import Shape
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.micro_batches import split_micro_batches
from omnithink_pl.model.policy import Policy, load_policy, ready_to_train
from omnithink_pl.rollout import Sampling

MICRO_BATCH = 8192  # model.memory.micro_batch_tokens


def step(shape: Shape, kind: Kind, plans: Plans, lap: Lap) -> None:
    """Run our whole step, on the same engine as the floor."""
    ours.train(shape, lap, PlannedEngine(kind, plans))


def floor(shape: Shape, kind: Kind, plans: Plans, learn: bool, lap: Lap) -> None:
    """Generate, then forward and backward if ``learn``: no rewards, no loss, no optimiser, no training loop.

    The engine loads the weights before each batch, as in training: the prompts are the same in every step, and cached
    keys and values of them would cost nothing.
    """
    policy, prompts = _policy_and_prompts(shape)
    engine = PlannedEngine(kind, plans)
    engine.attach(policy)
    for step in range(shape.steps):
        policy.weights_changed()
        engine.sync()
        seeds = range(step * len(prompts), (step + 1) * len(prompts))
        groups = engine.generate(prompts, Sampling(shape.group, max_tokens=shape.max_tokens), seeds)
        if learn:
            lengths = [(len(p), [len(c.token_ids) for c in group]) for p, group in zip(prompts, groups, strict=True)]
            for parts in split_micro_batches(lengths, MICRO_BATCH):
                chosen = [[groups[part.group][i].token_ids for i in part.completions] for part in parts]
                chosen_prompts = [prompts[part.group] for part in parts]
                token_logprobs(policy.model, chosen_prompts, chosen).logprobs.sum().backward()
            policy.model.zero_grad()
        lap()


def products(shape: Shape, completions: Sequence[int], lap: Lap) -> None:
    """Run the matrix products of the linear layers for completions of given lengths, forward and backward."""
    policy, prompts = _policy_and_prompts(shape)
    tokens, factors = sum(map(len, prompts)) + sum(completions), []
    for layer, rows in linear_layers(policy.model, tokens, sum(completions)):
        weight = layer.weight.detach()
        outputs, inputs = weight.shape
        hidden, gradient = weight.new_ones(rows, inputs), weight.new_ones(rows, outputs)
        # Both factors of: output, gradient of the input, gradient of the weight.
        factors += [(hidden, weight.T), (gradient, weight), (gradient.T, hidden)]
    sizes = {(len(left), right.shape[1]) for left, right in factors}
    products = {size: torch.empty(size, device=policy.model.device) for size in sizes}  # one for all of a size
    for _ in range(shape.steps):
        for left, right in factors:
            torch.mm(left, right, out=products[len(left), right.shape[1]])
        lap()


def share_of_batch(shape: Shape, batches: Sequence[Sequence[int]]) -> list[float]:
    """Return all operations of each batch's forward and backward pass, relative to those of ``products``."""
    policy, prompts = _policy_and_prompts(shape)
    lengths = list(map(len, prompts))
    linear = [linear_flops(policy.model, lengths, batch) for batch in batches]
    attention = [attention_flops(policy.model, lengths, batch) for batch in batches]
    return [(a + b) / linear[0] for a, b in zip(linear, attention, strict=True)]


def _policy_and_prompts(shape: Shape) -> tuple[Policy, list[list[int]]]:
    policy = load_policy(shape.policy)
    ready_to_train(policy.model)
    if torch.cuda.is_available():
        policy.model.cuda()
    return policy, [policy.encode(example.messages) for example in shape.examples()]
