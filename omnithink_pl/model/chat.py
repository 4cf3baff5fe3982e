"""A tokenizer's chat template: prompts to token ids, completions to text, and what the template writes of an answer.

Templates differ in what a prompt may hold (Gemma's first ones have no system role) and in where it ends: those of
DeepSeek-R1's distillations and of Qwen3-Thinking open the answer with ``<think>`` and a line end, that of Qwen3 inserts
an empty pair of ``<think>`` and ``</think>`` with ``enable_thinking: false``. What the template has written of the
answer belongs to the answer: :meth:`ChatTemplate.decode` puts it in front, so that whatever reads a completion's text
sees all of it.

Some templates write the date into each prompt. Here it is always the same one, or a run that is resumed a day later
would go on with other prompts.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from jinja2 import TemplateError, meta
from transformers.utils.chat_template_utils import _compile_jinja_template

from omnithink_pl.errors import BadInput
from omnithink_pl.types import TAGS, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts that no template has. Those of SmolLM3 and Nemotron Nano v2 take "/think" out of texts, also of "</think>".
_SYSTEM, _USER = (f"omnithink-{role}-probe {' '.join(TAGS)}" for role in ("system", "user"))
_ANSWER = "omnithink-answer-probe"
# Tags in order, up to the end of the prompt. A tag before a role's marker, "use <think>.<|assistant|>", opens nothing.
_OPENED = re.compile(r"(?:<think>[^<]*(?:</think>[^<]*)?)?(?:<answer>[^<]*)?\Z")
_OF_TRANSFORMERS = {"tools", "documents"}  # arguments of apply_chat_template that it hands to the template
_TODAY = datetime(2024, 7, 26)  # for every prompt; what Llama 3's templates write where there is no clock


@final
class ChatTemplate:
    """The chat template of a tokenizer.

    Args:
        tokenizer: Has the template.
        arguments: Passed to the template, such as ``enable_thinking``.

    Raises:
        BadInput: If the template does not know an argument: it would be ignored without a word.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        self.arguments = dict(arguments or {})
        own = set(inspect.signature(tokenizer.apply_chat_template).parameters) - _OF_TRANSFORMERS
        known = template_variables(tokenizer) - own - {"messages"} if self.arguments else set()
        for name in self.arguments:
            if name not in known:
                raise BadInput(
                    f"chat_template_kwargs: the policy's chat template has no argument {name!r}; look it up in the "
                    f"model's tokenizer_config.json or chat_template.jinja"
                )

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a prompt, up to where the model goes on.

        Where the template has no system role, the system text stands before the first question.

        Raises:
            BadInput: If the template refuses the conversation, opens this answer otherwise than others, changes what
                users say, or does not begin the assistant's turn.
        """
        if messages and messages[0]["role"] == "system" and not self.has_system_role:
            messages = merge_system(messages)
        prompt = self._render(messages)
        if not prompt.endswith(self._end) and (found := _opening(prompt)) != self.opened:
            raise BadInput(
                f"model.policy: its template opens the answer to {messages[-1]['content'][-30:]!r} with {found!r}, "
                f"to others with {self.opened!r}; take what switches that, such as /no_think, out of the prompts, and "
                f"use model.chat_template_kwargs"
            )
        return list(self.tokenizer.encode(prompt, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of an answer: what the template has opened, and a completion without special tokens.

        The four tags are kept, also where the tokenizer declares them special.
        """
        shown = [token for token in token_ids if token not in self._hidden]
        return self.opened + str(self.tokenizer.decode(shown, skip_special_tokens=False))

    def continuation(self, answer: str) -> str:
        """Return what the model has to write of an answer: the text behind what the template opens.

        Example:
            ``<think>so</think><answer>5</answer>`` is continued at ``so</think>`` where the template opens ``<think>``.

        Raises:
            BadInput: If the answer begins with a tag that the template has written, but not as the template has.
        """
        if answer.startswith(self.opened):
            return answer.removeprefix(self.opened)
        parts = [re.escape(part) for part in re.findall(r"<[^>]*>|[^<\s]+", self.opened)]
        if found := re.match("".join(rf"\s*{part}" for part in parts) + r"\s*", answer):  # up to white space
            return answer[found.end() :]
        if (repeated := re.match(rf"\s*({'|'.join(TAGS)})", answer)) and repeated[1] in self.opened:
            raise BadInput(
                f"the policy's chat template opens an answer with {self.opened!r}, so that {answer[:40]!r} would have "
                f"{repeated[1]} twice; change the text, or the template by model.chat_template_kwargs"
            )
        return answer

    def end_of_turn(self, stops: Collection[int] = ()) -> int:
        """Return the token that ends an answer: the one that the template writes behind it.

        It need not be the tokenizer's EOS: ``<|eot_id|>`` of Llama 3, ``<end_of_turn>`` of Gemma, ``<|end|>`` of Phi-3.

        Args:
            stops: Tokens that are known to end a completion. The first of these that the template writes, or else its
                first control token; the tokenizer's EOS if there is none.
        """
        eos, behind = int(self.tokenizer.eos_token_id), self._behind_answer
        return next((token for token in behind if token in {eos, *stops}), behind[0] if behind else eos)

    @cached_property
    def opened(self) -> str:
        """What the template writes of an answer: the end of a prompt, from the tag on that opens it."""
        return _opening(self._end)

    @cached_property
    def _end(self) -> str:
        """What stands between a question and its answer."""
        probe: list[Message] = [{"role": "user", "content": _USER}]
        prompt, asked = self._render(probe), self._render(probe, add_generation_prompt=False)
        if _USER not in prompt:
            raise BadInput(
                "model.policy: its chat template drops or changes what a user says, such as tags, or takes no plain "
                "text; use another policy, or mend its chat_template.jinja"
            )
        if prompt != asked and prompt.startswith(asked):  # some templates have the same in both renderings
            return prompt.removeprefix(asked)
        end = prompt.rpartition(_USER)[2]
        before, _, _ = self._answered.rpartition(_ANSWER)
        missing = before.rpartition(_USER)[2].removeprefix(end) if prompt == asked and before.startswith(prompt) else ""
        if re.sub("|".join(TAGS), "", missing).strip():  # Qwen3's puts tags before each answer
            raise BadInput(
                f"model.policy: its chat template does not begin the assistant's turn: prompts would end before "
                f"{missing!r}; let it write that at its end, within {{% if add_generation_prompt %}} (in "
                f"chat_template.jinja or tokenizer_config.json), or use another policy"
            )
        return end

    @cached_property
    def has_system_role(self) -> bool:
        """Whether the template shows a system message: some refuse it, some drop it, some change it."""
        probe: list[Message] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}]
        try:
            return _SYSTEM in self._render(probe)
        except BadInput:
            return False

    @cached_property
    def _hidden(self) -> frozenset[int]:
        """Special tokens but the tags, and what ends a turn, if special or not."""
        added = self.tokenizer.added_tokens_decoder
        special = {token for token, content in added.items() if content.special} | set(self.tokenizer.all_special_ids)
        tags = {token for token in special if str(self.tokenizer.convert_ids_to_tokens(token)) in TAGS}
        return frozenset(special - tags | {*self._behind_answer})

    @cached_property
    def _answered(self) -> str:
        """A question with its answer; empty if the template refuses that."""
        probe: list[Message] = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}]
        with suppress(BadInput):
            return self._render(probe, add_generation_prompt=False)
        return ""

    @cached_property
    def _behind_answer(self) -> list[int]:
        """Control tokens that the template writes behind an answer, in order; not all are declared special."""
        _, found, behind = self._answered.rpartition(_ANSWER)
        ids = self.tokenizer.encode(behind, add_special_tokens=False) if found else []
        control = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        plain = {"", *TAGS}  # some tokenizers have a token for two line ends, among those that were added
        return [t for t in ids if t in control and str(self.tokenizer.convert_ids_to_tokens(t)).strip() not in plain]

    def _render(self, messages: Sequence[Message], **options: bool) -> str:
        settings = {"strftime_now": _TODAY.strftime, "add_generation_prompt": True} | self.arguments | options
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, **settings))
        except (TemplateError, TypeError, ValueError) as error:  # such as of text where it expects a number
            roles = ", ".join(message["role"] for message in messages)
            raise BadInput(
                f"model.policy: its chat template refuses a conversation of {roles}: {error}; use another policy, or "
                f"set what it needs by model.chat_template_kwargs"
            ) from error


def template_variables(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the names that a tokenizer's chat template, or of several the default one, reads.

    Raises:
        TemplateError: If it is no template.
        ValueError: If there are several, and none is the default.
    """
    template = tokenizer.get_chat_template()
    return set(meta.find_undeclared_variables(_compile_jinja_template(template).environment.parse(template)))


def _opening(text: str) -> str:
    found = _OPENED.search(text)
    return found[0] if found else ""


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation whose system text stands at the head of the first question instead."""
    system, *rest = messages
    texts = [system["content"]]
    if rest and rest[0]["role"] == "user":
        texts.append(rest.pop(0)["content"])
    return [{"role": "user", "content": "\n\n".join(filter(None, texts))}, *rest]
