"""Prompts end where the template ends them, and a completion's text is the whole answer."""

from __future__ import annotations

from pathlib import Path
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
from omnithink_pl.rollout.base import RequestBatch, make_completion, stop_ids
from omnithink_pl.types import TAGS, Message
from tests.rewards.groups import outcome

ASKED: list[Message] = [{"role": "user", "content": "What is 2 + 3?"}]
TOLD: list[Message] = [{"role": "system", "content": "Use tags."}, *ASKED]

# The ends of templates as they are published; each turn is written as <|role|>text.
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
BEGIN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS + BEGIN
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}" + BEGIN
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% endfor %}" + TURNS + BEGIN
)
PLAIN = TURNS + BEGIN
OPENS = TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"  # R1-distill, Qwen3-Thinking
ALWAYS = TURNS + "<|assistant|>{{ '<think>\n' }}"  # whatever is asked
HYBRID = (  # Qwen3
    TURNS + "{% if add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
INSTRUCTS = TURNS + "{% if add_generation_prompt %}Put thoughts into <think>.\n<|assistant|>{% endif %}"
SWITCHED = (  # SmolLM3, less its other texts: a system text switches thinking, and loses the switch
    "{% set thinks = enable_thinking is not defined or enable_thinking %}"
    "{% if messages[0].role == 'system' %}{% set text = messages[0].content %}"
    "{% if '/no_think' in text %}{% set thinks = false %}{% elif '/think' in text %}{% set thinks = true %}{% endif %}"
    "<|system|>{{ text.replace('/no_think', '').replace('/think', '') }}\n{% set messages = messages[1:] %}{% endif %}"
    + TURNS
    + "{% if add_generation_prompt %}<|assistant|>{{ '' if thinks else '<think>\n\n</think>\n' }}{% endif %}"
)
ASKED_SWITCH = TURNS + (  # Nemotron Super v1.5
    "{% if add_generation_prompt %}<|assistant|>"
    "{{ '<think>\n\n</think>\n\n' if '/no_think' in messages[0].content else '<think>\n' }}{% endif %}"
)
PARTS = (  # SmolVLM
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content if part.type == 'text' %}{{ part.text }}"
    "{% endfor %}\n{% endfor %}" + BEGIN
)
CLEANS = TURNS.replace("m.content", "m.content.replace('/think', '')") + BEGIN  # Nemotron Nano v2
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CHATML_BEGIN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
YI = (  # the assistant's turn begins with each question, whatever is asked
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n"
    "<|im_start|>assistant\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
)
MISTRAL = (  # what ends a question begins its answer
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}"
)
COMMAND = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|END_RESPONSE|><|END_OF_TURN|>{% endfor %}" + BEGIN
HARMONY = (  # GPT-OSS: another end for the last answer
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "{{ '<|return|>' if m.role == 'assistant' and loop.last else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
DATED = "{% set today = strftime_now('%d %b %Y %H:%M:%S') %}<|system|>Today: {{ today }}\n" + PLAIN


def tokenizer(template: str | dict[str, str], special: tuple[str, ...] = ()) -> PreTrainedTokenizerBase:
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
    assert chat.tokenizer.decode(chat.encode(TOLD)) == "<|user|>Use tags.\n\nWhat is 2 + 3?\n<|assistant|>"
    assert chat.tokenizer.decode(chat.encode(TOLD[1:])) == "<|user|>What is 2 + 3?\n<|assistant|>"


def test_with_a_system_role_the_template_has_the_conversation_as_it_is() -> None:
    chat = ChatTemplate(tokenizer(PLAIN))
    assert chat.tokenizer.decode(chat.encode(TOLD)) == "<|system|>Use tags.\n<|user|>What is 2 + 3?\n<|assistant|>"


def test_merging_keeps_every_other_turn() -> None:
    later: list[Message] = [{"role": "assistant", "content": "5"}, {"role": "user", "content": "And 3 + 3?"}]
    assert merge_system([*TOLD, *later]) == [{"role": "user", "content": "Use tags.\n\nWhat is 2 + 3?"}, *later]
    assert merge_system(TOLD[:1]) == [{"role": "user", "content": "Use tags."}]
    assert merge_system([TOLD[0], *later]) == [{"role": "user", "content": "Use tags."}, *later]


NOT_ARGUMENTS = ["enable_thinkin", "thinking", "tokenize", "add_generation_prompt", "return_dict", "messages", "role"]


@pytest.mark.parametrize("name", NOT_ARGUMENTS)
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


@pytest.mark.parametrize("arguments", [{}, {"enable_thinking": False}], ids=str)
def test_a_system_text_that_the_template_would_change_stands_before_the_question(arguments: dict[str, Any]) -> None:
    """The tag </think> has in it what SmolLM3's template takes for a switch, and removes."""
    chat = ChatTemplate(tokenizer(SWITCHED), arguments)
    rule = "Reason inside <think> </think>, then answer inside <answer> </answer>."
    prompt = chat.tokenizer.decode(chat.encode([{"role": "system", "content": rule}, *ASKED]))
    assert prompt == f"<|user|>{rule}\n\nWhat is 2 + 3?\n<|assistant|>{chat.opened}"


@pytest.mark.parametrize("template", [PARTS, CLEANS])
def test_a_template_that_drops_or_changes_what_users_say_is_refused(template: str) -> None:
    with pytest.raises(BadInput, match=r"drops or changes what a user says.*use another policy"):
        ChatTemplate(tokenizer(template)).encode(ASKED)


def test_a_prompt_whose_answer_the_template_opens_otherwise_is_refused() -> None:
    chat = ChatTemplate(tokenizer(ASKED_SWITCH))
    assert chat.opened == "<think>\n"
    chat.encode(TOLD)
    with pytest.raises(
        BadInput, match=r"opens the answer to 'What is 2 \+ 3\?' with .*</think>.*take .* /no_think, out"
    ):
        chat.encode([{"role": "system", "content": "/no_think"}, *ASKED])


@pytest.mark.parametrize("template", [CHATML, TURNS])
def test_a_template_that_does_not_begin_the_assistants_turn_is_refused(template: str) -> None:
    with pytest.raises(BadInput, match=r"would end before '<\|.*assistant.*add_generation_prompt"):
        ChatTemplate(tokenizer(template)).encode(ASKED)


@pytest.mark.parametrize("template", [CHATML + CHATML_BEGIN, CHATML + "<|im_start|>assistant\n", YI, MISTRAL, ALWAYS])
def test_a_template_that_begins_the_assistants_turn_in_any_way_is_taken(template: str) -> None:
    chat = ChatTemplate(tokenizer(template))
    prompt = chat.tokenizer.decode(chat.encode(ASKED))
    assert prompt.rstrip().endswith(("assistant", "[/INST]", "<|assistant|><think>"))


@pytest.mark.parametrize(
    ("template", "added", "stops", "end"),
    [
        (PLAIN, [], [], "<|end|>"),  # the tokenizer's
        (CHATML + CHATML_BEGIN, ["<|im_end|>"], [], "<|im_end|>"),  # Qwen2.5, not instruct; InternLM2
        (CHATML + CHATML_BEGIN, ["<|im_end|>"], ["<|im_end|>", "<eos>"], "<|im_end|>"),  # Llama 3, Gemma
        (CHATML + CHATML_BEGIN, [], [], "<|end|>"),  # text, no token
        (MISTRAL, ["<eos>"], [], "<eos>"),
        (PHI, ["<eos>"], ["<|end|>", "<eos>"], "<|end|>"),
        (COMMAND, ["<|END_RESPONSE|>", "<|END_OF_TURN|>"], ["<|END_OF_TURN|>"], "<|END_OF_TURN|>"),
        (HARMONY, ["<|start|>", "<|message|>", "<|return|>"], ["<|return|>", "<|end|>"], "<|return|>"),
        (NO_SYSTEM.replace("\n", "\n\n"), ["\n\n"], [], "<|end|>"),
        (PLAIN.replace("\n", "</answer>"), [], [], "<|end|>"),
    ],
)
@pytest.mark.parametrize("special", [True, False])
def test_an_answer_ends_with_the_token_that_the_template_writes_behind_it(
    template: str, added: list[str], stops: list[str], end: str, special: bool
) -> None:
    made = tokenizer(template)
    made.add_tokens([AddedToken(token, normalized=False, special=special) for token in added])
    if "<eos>" in added:
        made.eos_token = "<eos>"
    known: list[int] = made.convert_tokens_to_ids(stops)
    model: Any = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=known))
    asked = Policy(model, made)
    assert made.convert_ids_to_tokens(asked.eos_id) == end
    assert asked.eos_id in stop_ids(asked)
    ids = [*made.encode("<answer>5</answer>", add_special_tokens=False), asked.eos_id]
    completion = make_completion(asked, ids, [0.0] * len(ids), stop_ids(asked))
    assert (completion.text, completion.finish_reason) == ("<answer>5</answer>", "stop")


def test_a_prompt_is_the_same_on_every_day() -> None:
    chat = ChatTemplate(tokenizer(DATED))
    assert chat.tokenizer.decode(chat.encode(ASKED)).startswith("<|system|>Today: 26 Jul 2024 00:00:00\n<|user|>")


def test_a_value_that_the_template_cannot_use_is_refused() -> None:
    template = "{% if thinking_budget > 0 %}{{ thinking_budget }}{% endif %}" + PLAIN  # Seed-OSS
    with pytest.raises(BadInput, match=r"refuses a conversation of user: .*'str' and 'int'.*chat_template_kwargs"):
        ChatTemplate(tokenizer(template), {"thinking_budget": "512"}).encode(ASKED)


def test_an_argument_is_one_of_the_default_template() -> None:
    made = tokenizer({"default": PLAIN + "I am thinking", "tool_use": HYBRID})
    assert made.decode(ChatTemplate(made).encode(ASKED)).startswith("<|user|>What is 2 + 3?\n<|assistant|>")
    for name in ("enable_thinking", "thinking"):
        with pytest.raises(BadInput, match=f"no argument '{name}'"):
            ChatTemplate(made, {name: False})


@pytest.mark.parametrize(
    ("template", "why"),
    [({"rag": PLAIN, "tool_use": PLAIN}, r"\['rag', 'tool_use'\]"), (PLAIN + "{% if %}", "Expected an expression")],
)
def test_a_tokenizer_without_a_usable_template_is_refused_when_it_is_loaded(
    template: str | dict[str, str], why: str, tmp_path: Path
) -> None:
    tokenizer(template).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(BadInput, match=rf"cannot be used \(.*{why}.*named 'default', as chat_template\.jinja"):
        load_tokenizer(str(tmp_path))
