"""A tiny random policy: what the engine needs of a model and a tokenizer, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

VOCABULARY = 128
EOS = 2


@dataclass
class TinyPolicy:
    """Stands in for ``Policy``; its text is the token ids, separated by spaces."""

    model: PreTrainedModel
    eos_id: int = EOS
    context: int = 128
    version: int = 0
    trust_remote_code: bool = False
    compute: torch.dtype | None = None

    def weights_changed(self) -> None:
        self.version += 1

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        return [3 + ord(letter) % (VOCABULARY - 3) for message in messages for letter in message["content"]]

    def decode(self, token_ids: Sequence[int]) -> str:
        return " ".join(str(token) for token in token_ids if token != EOS)


def shape(**changes: object) -> dict[str, object]:
    """A configuration in float32 whose attention is sharp enough for mistakes in masks to show."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": EOS,
        "pad_token_id": 0,
        **changes,
    }


def tiny_qwen(**changes: object) -> Qwen2ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(Qwen2Config(**shape(**changes)))


def tiny_llama(**changes: object) -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(LlamaConfig(**shape(**changes)))


def tiny_qwen3(**changes: object) -> Qwen3ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Qwen3ForCausalLM(Qwen3Config(**shape(head_dim=32, **changes)))


def tiny_experts(**changes: object) -> Qwen3MoeForCausalLM:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 32}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape(**experts, **changes)))


def random_tokens(*lengths: int, seed: int = 0) -> list[list[int]]:
    """A list of random tokens, no EOS among them, for each length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def teacher_forced(
    model: PreTrainedModel,
    prompt: Sequence[int],
    completion: Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[float]:
    """Log-probabilities of a completion: one sequence, one forward, no cache, no padding."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0].double()
    rows = (logits[len(prompt) - 1 : -1] / temperature).softmax(-1).tolist()
    return [math.log(row[token] / mass(row, token, top_p)) for row, token in zip(rows, completion, strict=True)]


def mass(probabilities: Sequence[float], token: int, top_p: float) -> float:
    """Probability of the smallest nucleus and the token, by the definition: add the most likely until it is enough."""
    inside: set[int] = set()
    for other in sorted(range(len(probabilities)), key=lambda other: -probabilities[other]):
        if sum(probabilities[one] for one in inside) >= top_p:
            break
        inside.add(other)
    return sum(probabilities[one] for one in inside | {token})
