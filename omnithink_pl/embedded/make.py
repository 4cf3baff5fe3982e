"""Make the packaged policy from nothing: train a tokenizer, draw weights, and imitate demonstrations."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from jsonargparse import auto_cli
from lightning.pytorch import seed_everything
from rich.progress import track
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from torch.optim.lr_scheduler import OneCycleLR
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from omnithink_pl.embedded import code, math, qa, writing
from omnithink_pl.embedded.demonstrations import (
    Demonstration,
    code_demonstration,
    letter_demonstration,
    math_demonstration,
    qa_demonstration,
    writing_demonstration,
)
from omnithink_pl.embedded.problems import Problem, split_of
from omnithink_pl.model.policy import load_policy, ready_to_train
from omnithink_pl.modules.sft import Pair, completion_loss
from omnithink_pl.prompts import render
from omnithink_pl.tasks.base import SYSTEM_PROMPT
from omnithink_pl.types import TAGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACKAGED = Path(__file__).with_name("policy")
BATCH, STEPS, LEARNING_RATE = 50, 1440, 4e-3
TAUGHT = 0.8
"""Share of the steps that come first and show no bad habits."""

CONTEXT = 192
VOCABULARY = 1024
TOKENIZER_TEXTS = 4000
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END, PAD = "<|end|>", "<|pad|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def _shown(
    draw: Callable[[random.Random], Problem], demonstrate: Callable[[Problem, random.Random, bool], Demonstration]
) -> Callable[[random.Random, bool], Demonstration]:
    """Return a function that draws a problem which is not held out and demonstrates it."""

    def show(rng: random.Random, habits: bool) -> Demonstration:
        problem = draw(rng)
        while split_of(problem.key) == "test":
            problem = draw(rng)
        return demonstrate(problem, rng, habits)

    return show


CODE, MATH = _shown(code.draw, code_demonstration), _shown(math.draw, math_demonstration)
QA, LETTERS = _shown(qa.draw, qa_demonstration), _shown(qa.draw, letter_demonstration)
WRITING = _shown(writing.draw, writing_demonstration)
LESSONS = (CODE, MATH, QA, MATH, WRITING, LETTERS)
"""Lessons in turn; arithmetic takes the most practice, and questions are answered in both forms."""


def demonstrations(seed: int, taught: int = 0) -> Iterator[Demonstration]:
    """Yield demonstrations without end, lesson by lesson; the first ``taught`` of them show no bad habits."""
    rng = random.Random(seed)
    for number in count():
        yield LESSONS[number % len(LESSONS)](rng, number >= taught)


def batches(tokenizer: PreTrainedTokenizerBase, seed: int, steps: int) -> Iterator[list[Pair]]:
    """Yield ``steps`` batches of (prompt, completion) token ids."""
    stream = demonstrations(seed, taught=round(TAUGHT * steps) * BATCH)
    for _ in range(steps):
        yield [_pair(tokenizer, shown) for shown in islice(stream, BATCH)]


def _pair(tokenizer: PreTrainedTokenizerBase, shown: Demonstration) -> Pair:
    messages = [{"role": "system", "content": render(SYSTEM_PROMPT)}, {"role": "user", "content": shown.prompt}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return prompt, [*tokenizer.encode(shown.completion), tokenizer.eos_token_id]


def train_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """Train a tokenizer of ``VOCABULARY`` tokens that splits text as Qwen2 does, digits one by one.

    The class is Qwen2's own because transformers loads that class for every Qwen2 model, whatever the tokenizer's files
    say. The four tags are single tokens but not *special*, so that decoding keeps them. Every byte is a token, so any
    text (in Unicode's composed form) survives a round trip.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        special_tokens=[END, PAD, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    parts = (part for text in texts for part in re.split("|".join(TAGS), text) if part)
    trained.train_from_iterator(parts, trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        unk_token=END,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return tokenizer


def start(directory: Path, seed: int) -> PreTrainedTokenizerBase:
    """Write an untrained policy with its tokenizer."""
    shown = islice(demonstrations(seed), TOKENIZER_TEXTS)
    tokenizer = train_tokenizer(text for d in shown for text in (render(SYSTEM_PROMPT), d.prompt, d.completion))
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return tokenizer


def make(output: Path = PACKAGED, seed: int = 0, steps: int = STEPS) -> None:
    """Train the tokenizer, draw initial weights, fine-tune them, and save everything in bfloat16.

    Args:
        output: Directory of the policy, in Hugging Face format.
        seed: Seed of weights and demonstrations. The same seed gives the same scores within noise.
        steps: Batches of SFT.
    """
    seed_everything(seed, verbose=False)
    with TemporaryDirectory() as scratch:  # so that an interruption leaves the present policy alone
        tokenizer = start(Path(scratch), seed)
        model = ready_to_train(load_policy(scratch).model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.05)
    for pairs in track(batches(tokenizer, seed + 1, steps), "fine-tuning", total=steps):
        optimizer.zero_grad()
        torch.autograd.backward(completion_loss(model, pairs))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    auto_cli(make)
