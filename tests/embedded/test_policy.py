"""The packaged policy: small, plain, and able to read and write what the tasks need."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from omnithink_pl.embedded.make import TAGS, demonstrations
from omnithink_pl.model.policy import Policy, load_policy, policy_path
from omnithink_pl.prompts import render
from omnithink_pl.tasks.base import SYSTEM_PROMPT
from omnithink_pl.types import Message

LONGEST_PROMPT, LONGEST_COMPLETION = 70, 56


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("embedded")


def chat(prompt: str) -> list[Message]:
    return [{"role": "system", "content": render(SYSTEM_PROMPT)}, {"role": "user", "content": prompt}]


def test_the_directory_is_at_most_4_megabytes_and_holds_safetensors_only() -> None:
    files = [file for file in Path(policy_path("embedded")).iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 4_000_000
    assert [file.name for file in files if file.suffix in (".safetensors", ".bin", ".pt")] == ["model.safetensors"]


def test_it_loads_with_plain_transformers_as_the_same_model(policy: Policy) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy_path("embedded"), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(policy_path("embedded"))
    ids = tokenizer.apply_chat_template(chat("Hello"), add_generation_prompt=True, return_dict=False)
    assert ids == policy.encode(chat("Hello"))
    with torch.no_grad():
        inputs = torch.tensor([ids])
        assert torch.equal(model(inputs).logits, policy.model(inputs).logits)
    assert model.config.model_type == "qwen2"
    assert model.config.hidden_size // model.config.num_attention_heads == 32


@pytest.mark.parametrize(
    "text",
    [
        "<think>3 steps</think><answer>def f(x):\n    x = x[::-1]\n    return x</answer>",
        "  two spaces,\ttab\r\n\n\nlines  ",
        "Grüße, 你好, 🙂 and 3.14159 <think",
        "".join(map(chr, range(32, 127))),
    ],
)
def test_text_comes_back_from_its_tokens(policy: Policy, text: str) -> None:
    assert policy.tokenizer.decode(policy.tokenizer.encode(text), skip_special_tokens=True) == text


def test_each_tag_is_one_token_and_each_digit_stands_alone(policy: Policy) -> None:
    tokenizer = policy.tokenizer
    assert all(len(tokenizer.encode(tag)) == 1 for tag in TAGS)
    assert all(tokenizer.decode(tokenizer.encode(tag), skip_special_tokens=True) == tag for tag in TAGS)
    assert len(tokenizer.encode("20571")) == 5
    assert len(tokenizer) <= 1024
    assert policy.model.config.vocab_size == len(tokenizer)


def test_prompts_and_completions_of_all_tasks_fit_the_context(policy: Policy) -> None:
    stream = demonstrations(seed=3)
    shown = [next(stream) for _ in range(2000)]
    prompts = [len(policy.encode(chat(d.prompt))) for d in shown]
    completions = [len(policy.tokenizer.encode(d.completion)) + 1 for d in shown]
    assert max(prompts) <= LONGEST_PROMPT
    assert max(completions) <= LONGEST_COMPLETION
    assert policy.context >= 192


def test_a_completion_ends_with_the_end_token(policy: Policy) -> None:
    ids = torch.tensor([policy.encode(chat("Mia has 5 pens. She finds 3 more. How many pens now?"))])
    out = policy.model.generate(ids, max_new_tokens=56, do_sample=False)[0, ids.shape[1] :].tolist()
    assert out[-1] == policy.eos_id
    assert policy.tokenizer.decode(out).count("<answer>") == 1
