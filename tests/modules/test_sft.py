"""The SFT loss is the plain mean over completion tokens, and training lowers it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import Qwen2ForCausalLM

from omnithink_pl.errors import BadInput
from omnithink_pl.model.memory import MemorySettings
from omnithink_pl.modules.sft import Pair, SupervisedFineTuning, completion_loss
from omnithink_pl.rollout import TransformersEngine
from omnithink_pl.types import Example, Options
from tests.tiny import tiny_qwen

PAIRS: list[Pair] = [([3, 5, 7], [11, 2, 9]), ([4], [6, 6, 6, 6, 1]), ([8, 9, 10, 11, 12], [1])]


QUIET: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 1, "logger": False}
QUIET |= dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


@pytest.fixture
def model() -> Qwen2ForCausalLM:
    return tiny_qwen(vocab_size=16, initializer_range=0.5).eval()


def plain_loss(model: Qwen2ForCausalLM, pairs: list[Pair]) -> float:
    """One row at a time, one token at a time, in float64."""
    total, count = 0.0, 0
    with torch.no_grad():
        for prompt, completion in pairs:
            seen = list(prompt)
            for token in completion:
                logits = model(torch.tensor([seen])).logits[0, -1].double()
                total -= math.log(math.exp(logits[token]) / sum(math.exp(value) for value in logits))
                seen.append(token)
                count += 1
    return total / count


def test_the_loss_equals_plain_loops_over_completion_tokens(model: Qwen2ForCausalLM) -> None:
    assert completion_loss(model, PAIRS).item() == pytest.approx(plain_loss(model, PAIRS), abs=1e-5)


def test_the_loss_of_an_adapted_model_is_that_of_the_merged_one(model: Qwen2ForCausalLM) -> None:
    before = completion_loss(model, PAIRS).item()
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    loss = completion_loss(adapted, PAIRS)
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad == ("lora_" in name) for name, p in adapted.named_parameters())
    assert loss.item() == pytest.approx(completion_loss(adapted.merge_and_unload(), PAIRS).item(), rel=1e-5)
    assert abs(loss.item() - before) > 1e-3


def test_gradients_of_parts_add_up_to_the_gradient_of_the_batch(model: Qwen2ForCausalLM) -> None:
    completion_loss(model, PAIRS).backward()
    whole = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    tokens = sum(len(completion) for _, completion in PAIRS)
    for pair in PAIRS:
        (completion_loss(model, [pair]) * len(pair[1]) / tokens).backward()
    parts = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pair", [([], [1]), ([1], [])])
def test_a_row_that_cannot_be_trained_on_is_refused(model: Qwen2ForCausalLM, pair: Pair) -> None:
    with pytest.raises(ValueError, match="drop the empty rows"):
        completion_loss(model, [pair])


class Demonstrations(L.LightningDataModule):
    """The same few demonstrations in every batch; nothing held out."""

    def __init__(self, examples: list[Example], steps: int) -> None:
        super().__init__()
        self.train, self.held_out, self.steps = examples, {}, steps

    def train_dataloader(self) -> DataLoader:
        return DataLoader([self.train] * self.steps, batch_size=None)

    def transfer_batch_to_device(self, batch: list[Example], device: object, dataloader_idx: int) -> list[Example]:
        return batch


def shown(text: str) -> Example:
    return Example("math", f"row {text}", "", text, ({"role": "user", "content": f"Say {text}."},))


def trained(examples: list[Example], steps: int, budget: int = 8192) -> tuple[SupervisedFineTuning, list[float]]:
    """A module after some steps at a learning rate of 1e-3, and its losses."""
    adamw, memory = partial(torch.optim.AdamW, lr=1e-3), MemorySettings(micro_batch_tokens=budget)
    module = SupervisedFineTuning(TransformersEngine(), {}, adamw, memory=memory)
    losses: list[float] = []
    module.send = lambda metrics: losses.append(metrics["train/loss"])  # type: ignore[method-assign]
    L.Trainer(**QUIET).fit(module, datamodule=Demonstrations(examples, steps))
    assert module.steps_done == steps
    return module, losses


def test_training_makes_the_demonstrated_text_likely() -> None:
    module, losses = trained([shown("xyz qrs tuv")], steps=8)
    assert losses[-1] < losses[0] - 0.5
    prompt, completion = module.tokens(shown("xyz qrs tuv"))
    assert module.policy.decode(completion) == "xyz qrs tuv"
    assert completion[-1] == module.policy.eos_id
    assert prompt == module.policy.encode(shown("xyz qrs tuv").messages)


def test_a_demonstration_goes_on_where_the_chat_template_ends_the_prompt() -> None:
    module = SupervisedFineTuning(TransformersEngine(), {}, torch.optim.SGD, chat_template_kwargs={"thinks": False})
    module.load()
    end = "{% if add_generation_prompt %}<|assistant|>{% if not thinks %}<think></think>{% endif %}{% endif %}"
    module.policy.tokenizer.chat_template = "{{ messages[-1].content }}" + end
    prompt, completion = module.tokens(shown("<think> </think><answer>5</answer>"))
    assert module.policy.tokenizer.decode(prompt).endswith("<|assistant|><think></think>")
    assert completion == [*module.policy.tokenizer.encode("<answer>5</answer>"), module.policy.eos_id]
    with pytest.raises(BadInput, match=r"data\.demonstrations, math row row .*<think> twice"):
        module.tokens(shown("<think>so</think><answer>5</answer>"))


def test_micro_batches_change_neither_loss_nor_weights() -> None:
    examples = [shown("one"), shown("two three four"), shown("five six seven eight nine")]
    whole, losses = trained(examples, steps=2)
    parts, same = trained(examples, steps=2, budget=1)
    assert same == pytest.approx(losses, abs=1e-5)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (shown("word " * 200), r"data\.demonstrations, math row row word .* more than the policy's context of 192"),
        (replace(shown("x"), reference=Options(("a",), ("a",))), r"math, row row x: its reference is no text"),
    ],
)
def test_what_cannot_be_imitated_is_refused_before_the_first_step(example: Example, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        trained([example], steps=1)
