"""A model on disk that really judges, and is small enough to serve anywhere.

Its chat template reads the two answers and ends the prompt with one word for what it finds; the model has learned
which word follows which, and no more. So a server has to do all that it does for a large judge: render the template,
encode, generate, stop, decode.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.tiny import tiny_llama

CONTEXT = 512
WORDS = ["<unk>", "<eos>", "likes-a", "likes-b", "likes-none", "mumbles", "[[A]]", "[[B]]", "[[C]]", "hm"]
SAYS = {"likes-a": "[[A]]", "likes-b": "[[B]]", "likes-none": "[[C]]", "mumbles": "hm"}
FOLLOWS = SAYS | dict.fromkeys(SAYS.values(), "<eos>")
# The better answer has the word "good"; "first" asks for a judge that goes by position, "mumble" for one that never
# decides, "mumble once" for one that decides when it is reminded.
TEMPLATE = """\
{%- set asked = (messages | selectattr('role', 'equalto', 'user') | list)[0]['content'] -%}
{%- set a = asked.split(' ANSWER A\n')[1].split(' ANSWER B\n')[0] -%}
{%- set b = asked.split(' ANSWER B\n')[1].split(' END\n')[0] -%}
{%- for message in messages %}{{ message['content'] }} {% endfor -%}
{%- if 'mumble once' in asked and messages | length > 2 %}likes-a
{%- elif 'mumble' in asked %}mumbles
{%- elif 'first' in asked %}likes-a
{%- elif 'good' in a and 'good' not in b %}likes-a
{%- elif 'good' in b and 'good' not in a %}likes-b
{%- else %}likes-none
{%- endif -%}"""


def save_judge(directory: Path) -> None:
    """Write the model and its tokenizer."""
    encoder = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    encoder.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=encoder, unk_token="<unk>", eos_token="<eos>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    bigrams().save_pretrained(directory)


def bigrams() -> LlamaForCausalLM:
    """A model whose layer adds nothing: each word's embedding is read as the word that follows.

    Llama, because a Qwen2 on disk gets the tokenizer of Qwen2, whatever lies beside it.
    """
    eos = WORDS.index("<eos>")
    model = tiny_llama(
        vocab_size=len(WORDS),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        eos_token_id=eos,
        pad_token_id=eos,
        bos_token_id=None,
    )
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(WORDS), model.config.hidden_size))
        model.lm_head.weight.zero_()
        for word, following in FOLLOWS.items():
            model.lm_head.weight[WORDS.index(following), WORDS.index(word)] = 1.0
    return model
