"""A small byte-level BPE tokenizer, trained on the embedded corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

VOCABULARY = 1024
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END, PAD = "<|end|>", "<|pad|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], context: int) -> Qwen2Tokenizer:
    """Train a tokenizer of ``VOCABULARY`` tokens that splits text as Qwen2 does, digits one by one.

    The class is Qwen2's own because transformers loads that class for every Qwen2 model,
    whatever the tokenizer's files say. The four tags are single tokens but not *special*, so
    that decoding keeps them. Every byte is a token, so any text (in Unicode's composed form)
    comes back from its tokens unchanged.

    Args:
        texts: Prompts and completions, without roles.
        context: Tokens the model can see.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        special_tokens=[END, PAD, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator((part for text in texts for part in _between_tags(text)), trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        unk_token=END,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return tokenizer


def _between_tags(text: str) -> list[str]:
    for tag in TAGS:
        text = text.replace(tag, "\0")
    return [part for part in text.split("\0") if part]
