"""Our step, and lower bounds of its cost, each as a program of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from benchmarks import ours
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
