"""Prompts end where the template ends them, and a completion's text is the whole answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from omnithink_pl.errors import BadInput
from omnithink_pl.model.chat import ChatTemplate, merge_system
from omnithink_pl.model.policy import Policy, load_tokenizer
from omnithink_pl.rewards import FormatReward, TagsReward, extract_answer
from omnithink_pl.rollout import Sampling
from omnithink_pl.rollout.base import RequestBatch, make_completion
from omnithink_pl.types import TAGS, Message
from tests.rewards.groups import outcome

ASKED: list[Message] = [{"role": "user", "content": "What is 2 + 3?"}]
TOLD: list[Message] = [{"role": "system", "content": "Use tags."}, *ASKED]

# The ends of templates as they are published; each turn is written as <|role|>text.
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% endfor %}" + TURNS
)
PLAIN = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
OPENS = TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"  # R1-distill, Qwen3-Thinking
ALWAYS = TURNS + "<|assistant|>{{ '<think>\n' }}"  # whatever is asked
HYBRID = (  # Qwen3
    TURNS + "{% if add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
INSTRUCTS = TURNS + "{% if add_generation_prompt %}Put thoughts into <think>.\n<|assistant|>{% endif %}"


def tokenizer(template: str, special: tuple[str, ...] = ()) -> PreTrainedTokenizerBase:
    """The embedded tokenizer with another template, and some tags special."""
    made = load_tokenizer("embedded")
    made.chat_template = template
    made.add_tokens([AddedToken(tag, normalized=False, special=True) for tag in special])
    return made


def policy(template: str, special: tuple[str, ...] = (), **arguments: Any) -> Policy:
    model: Any = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    return Policy(model, tokenizer(template, special), chat_template_kwargs=arguments)


@pytest.mark.parametrize(
    ("template", "arguments", "opened"),
    [
        (PLAIN, {}, ""),
        (OPENS, {}, "<think>\n"),
        (ALWAYS, {}, "<think>\n"),
        (OPENS.replace("<|assistant|><think>", "<think>"), {}, "<think>\n"),
        (HYBRID, {}, ""),
        (HYBRID, {"enable_thinking": True}, ""),
        (HYBRID, {"enable_thinking": False}, "<think>\n\n</think>\n\n"),
        (OPENS.replace("\n{% endif", "</think><answer>{% endif"), {}, "<think></think><answer>"),
    ],
)
def test_what_the_template_opens_is_the_end_of_the_prompt_from_the_first_tag_on(
    template: str, arguments: dict[str, Any], opened: str
) -> None:
    chat = ChatTemplate(tokenizer(template), arguments)
    assert chat.opened == opened
    assert chat.tokenizer.decode(chat.encode(ASKED)).endswith(opened)


@pytest.mark.parametrize("special", [(), TAGS, TAGS[:1], TAGS[2:]], ids=str)
@pytest.mark.parametrize(
    ("template", "arguments", "written", "form", "tags"),
    [
        (PLAIN, {}, "<think>a</think><answer>5</answer>", 1, 1),
        (PLAIN, {}, "a</think><answer>5</answer>", 0, 0.75),
        (OPENS, {}, "a</think>\n\n<answer>5</answer>", 1, 1),
        (OPENS, {}, "<think>a</think><answer>5</answer>", 0, 0.75),
        (HYBRID, {"enable_thinking": False}, "<answer>5</answer>", 1, 1),
        (HYBRID, {"enable_thinking": False}, "<think>a</think><answer>5</answer>", 0, 0.5),
    ],
)
def test_rewards_count_what_the_prompt_opened_and_tags_that_are_special_tokens(
    special: tuple[str, ...], template: str, arguments: dict[str, Any], written: str, form: float, tags: float
) -> None:
    asked = policy(template, special, **arguments)
    ids = [*asked.tokenizer.encode(written, add_special_tokens=False), asked.eos_id]
    text = make_completion(asked, ids, [0.0] * len(ids), {asked.eos_id}).text
    assert text == asked.chat.opened + written
    assert outcome(FormatReward(), "", text).value == form
    assert outcome(TagsReward(), "", text).value == tags
    assert extract_answer(text) == "5"


def test_a_continued_completion_has_the_text_of_one_that_was_never_cut() -> None:
    asked = policy(OPENS, TAGS)
    ids = [*asked.tokenizer.encode("a</think><answer>5</answer>", add_special_tokens=False), asked.eos_id]
    parts = (ids, ids[:2], ids[2:])
    whole, head, tail = (make_completion(asked, part, [0.0] * len(part), {asked.eos_id}) for part in parts)
    batch = RequestBatch(asked, [(1,)], Sampling(max_tokens=len(ids)), [(head,)], None)
    batch.add(batch.requests[0], [tail])
    assert batch.groups() == [(whole,)]


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM, ALTERNATING])
def test_without_a_system_role_its_text_stands_before_the_question(template: str) -> None:
    chat = ChatTemplate(tokenizer(template))
    assert not chat.has_system_role
    assert chat.tokenizer.decode(chat.encode(TOLD)) == "<|user|>Use tags.\n\nWhat is 2 + 3?\n"
    assert chat.encode(TOLD[1:]) == chat.tokenizer.encode("<|user|>What is 2 + 3?\n", add_special_tokens=False)


def test_with_a_system_role_the_template_has_the_conversation_as_it_is() -> None:
    chat = ChatTemplate(tokenizer(PLAIN))
    assert chat.tokenizer.decode(chat.encode(TOLD)) == "<|system|>Use tags.\n<|user|>What is 2 + 3?\n<|assistant|>"


def test_merging_keeps_every_other_turn() -> None:
    later: list[Message] = [{"role": "assistant", "content": "5"}, {"role": "user", "content": "And 3 + 3?"}]
    assert merge_system([*TOLD, *later]) == [{"role": "user", "content": "Use tags.\n\nWhat is 2 + 3?"}, *later]
    assert merge_system(TOLD[:1]) == [{"role": "user", "content": "Use tags."}]
    assert merge_system([TOLD[0], *later]) == [{"role": "user", "content": "Use tags."}, *later]


@pytest.mark.parametrize("name", ["enable_thinkin", "thinking", "tokenize", "add_generation_prompt", "return_dict"])
def test_an_argument_that_the_template_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=rf"chat_template_kwargs: .*no argument '{name}'"):
        ChatTemplate(tokenizer(HYBRID), {name: False})


def test_a_conversation_that_the_template_refuses_is_named() -> None:
    with pytest.raises(BadInput, match=r"refuses a conversation of assistant: Conversation roles must alternate"):
        ChatTemplate(tokenizer(ALTERNATING)).encode([{"role": "assistant", "content": "5"}])


@pytest.mark.parametrize(
    ("template", "arguments", "answer", "written"),
    [
        (PLAIN, {}, "<think>a</think>", "<think>a</think>"),
        (OPENS, {}, "<think>\na</think>", "a</think>"),
        (OPENS, {}, " <think>a</think>", "a</think>"),
        (OPENS, {}, "a</think>", "a</think>"),
        (HYBRID, {"enable_thinking": False}, "<think></think><answer>5</answer>", "<answer>5</answer>"),
    ],
)
def test_a_demonstration_goes_on_where_the_prompt_ends(
    template: str, arguments: dict[str, Any], answer: str, written: str
) -> None:
    chat = ChatTemplate(tokenizer(template), arguments)
    assert chat.continuation(answer) == written
    assert chat.continuation(chat.opened + written) == written


def test_a_demonstration_that_would_repeat_a_tag_is_refused() -> None:
    with pytest.raises(BadInput, match=r"<think> twice; change the text"):
        ChatTemplate(tokenizer(HYBRID), {"enable_thinking": False}).continuation("<think>a</think><answer>5</answer>")


def test_an_instruction_that_names_a_tag_opens_nothing() -> None:
    assert ChatTemplate(tokenizer(INSTRUCTS)).opened == ""
