"""The packaged policy: remade the same from the same seed, small, and able to read and write what the tasks need."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from omnithink_pl.embedded.make import BATCH, batches, demonstrations, make
from omnithink_pl.model.policy import Policy, load_policy, policy_path
from omnithink_pl.prompts import render
from omnithink_pl.tasks.base import SYSTEM_PROMPT
from omnithink_pl.types import TAGS, Message

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
        torch.testing.assert_close(model(inputs).logits, policy.model(inputs).logits, atol=1e-4, rtol=0)
    assert model.config.model_type == "qwen2"
    assert model.config.hidden_size // model.config.num_attention_heads == 32


TEXTS = [
    "<think>3 steps</think><answer>def f(x):\n    x = x[::-1]\n    return x</answer>",
    "  two spaces,\ttab\r\n\n\nlines  ",
    "Grüße, 你好, 🙂 and 3.14159 <think",
    "".join(map(chr, range(32, 127))),
]


def test_text_comes_back_from_its_tokens_each_tag_is_one_and_each_digit_stands_alone(policy: Policy) -> None:
    tokenizer = policy.tokenizer
    for text in (*TEXTS, *TAGS):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert all(len(tokenizer.encode(tag)) == 1 for tag in TAGS)
    assert len(tokenizer.encode("20571")) == 5
    assert len(tokenizer) <= 1024
    assert policy.model.config.vocab_size == len(tokenizer)


def test_prompts_and_completions_of_all_tasks_fit_the_context(policy: Policy) -> None:
    shown = list(islice(demonstrations(seed=3), 2000))
    assert max(len(policy.encode(chat(d.prompt))) for d in shown) <= LONGEST_PROMPT
    assert max(len(policy.tokenizer.encode(d.completion)) + 1 for d in shown) <= LONGEST_COMPLETION
    assert policy.context >= 192


def test_a_completion_ends_with_the_end_token(policy: Policy) -> None:
    ids = torch.tensor([policy.encode(chat("Mia has 5 pens. She finds 3 more. How many pens now?"))])
    out = policy.model.generate(ids, max_new_tokens=56, do_sample=False)[0, ids.shape[1] :].tolist()
    assert out[-1] == policy.eos_id
    assert policy.tokenizer.decode(out).count("<answer>") == 1


def test_the_same_seed_makes_the_same_policy_another_seed_another_and_all_the_packaged_tokenizer(
    policy: Policy, tmp_path: Path
) -> None:
    made = []
    for number, seed in enumerate((0, 0, 1)):
        make(tmp_path / str(number), seed, steps=1)
        made.append(load_policy(str(tmp_path / str(number))))
    state, same, other = (one.model.state_dict() for one in made)
    assert all(torch.equal(state[key], value) for key, value in same.items())
    assert not all(torch.equal(state[key], value) for key, value in other.items())
    assert made[0].tokenizer.get_vocab() == policy.tokenizer.get_vocab()


def test_the_demonstrations_are_those_that_the_packaged_policy_was_trained_on() -> None:
    """Fails when problems or prompts changed: the policy must be made again then."""
    shown = [(one.prompt, one.completion) for one in islice(demonstrations(seed=0), 4000)]
    assert hashlib.sha256(json.dumps(shown).encode()).hexdigest().startswith("800ccb0eebe38f1d")


def test_the_stream_is_a_pure_function_of_its_seed_and_batches_carry_it_whole(policy: Policy) -> None:
    (batch,) = batches(policy.tokenizer, seed=5, steps=1)
    stream = demonstrations(seed=5, taught=BATCH)
    for prompt, completion in batch:
        shown = next(stream)
        assert shown.prompt in policy.tokenizer.decode(prompt)
        assert policy.decode(completion) == shown.completion
        assert completion[-1] == policy.eos_id
