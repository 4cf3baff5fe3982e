"""A policy with adapters that changed it, as its own judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peft import LoraConfig, get_peft_model

from omnithink_pl.judge import Comparison
from omnithink_pl.judge.model import ModelJudge
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.types import Completion
from tests.tiny import TinyPolicy, tiny_qwen

CONTEXT = 4096
GREEDY = Sampling(1, 0.0, 1.0, 8)


class Listening:
    """An engine that keeps what it was asked and what it said."""

    def __init__(self, engine: RolloutEngine) -> None:
        self.engine = engine
        self.said: list[tuple[list[list[int]], list[tuple[Completion, ...]]]] = []

    def attach(self, policy: object) -> None:
        self.engine.attach(policy)  # type: ignore[arg-type]

    def sync(self) -> None:
        self.engine.sync()

    def generate(self, prompts: Sequence[Sequence[int]], *how: object) -> list[tuple[Completion, ...]]:
        found = self.engine.generate(prompts, *how)  # type: ignore[arg-type]
        self.said.append(([list(prompt) for prompt in prompts], found))
        return found


def replies(engine: RolloutEngine, prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    return [group[0].token_ids for group in engine.generate(prompts, GREEDY, [0] * len(prompts))]


def check_that_the_base_judges(made: Callable[[], RolloutEngine]) -> None:
    """What a judge with ``base`` says is what the model without adapters says, and afterwards all is as before."""
    shape = {"max_position_embeddings": CONTEXT}
    adapters = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    policy = TinyPolicy(get_peft_model(tiny_qwen(**shape), adapters), context=CONTEXT)
    alone, listening = made(), Listening(made())
    alone.attach(TinyPolicy(tiny_qwen(**shape), context=CONTEXT))  # type: ignore[arg-type]
    listening.attach(policy)
    judge = ModelJudge(base=True, max_tokens=GREEDY.max_tokens)
    judge.attach(policy, listening)  # type: ignore[arg-type]
    judge.compare([Comparison("Write.", "A story.", "A tale.")])
    ((prompts, said),) = listening.said
    assert len(prompts) == 2, "both orders"
    found, base = [group[0].token_ids for group in said], replies(alone, prompts)
    adapted = replies(listening.engine, prompts)
    assert found == base
    assert found != adapted, "the adapters are there again, and make a difference"
    listening.sync()
    assert replies(listening.engine, prompts) == adapted
