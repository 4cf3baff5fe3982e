"""A tokenizer's chat template: prompts to token ids, completions to text, and what the template writes of an answer.

Templates differ in what a prompt may hold (Gemma's first ones have no system role) and in where it ends: those of
DeepSeek-R1's distillations and of Qwen3-Thinking open the answer with ``<think>`` and a line end, that of Qwen3 inserts
an empty pair of ``<think>`` and ``</think>`` with ``enable_thinking: false``. What the template has written of the
answer belongs to the answer: :meth:`ChatTemplate.decode` puts it in front, so that whatever reads a completion's text
sees all of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from jinja2 import TemplateError

from omnithink_pl.errors import BadInput
from omnithink_pl.types import TAGS, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM, _USER = "omnithink-system-probe", "omnithink-user-probe"  # texts that no template has
# Tags in order, up to the end of the prompt. A tag before a role's marker, "use <think>.<|assistant|>", opens nothing.
_OPENED = re.compile(r"(?:<think>[^<]*(?:</think>[^<]*)?)?(?:<answer>[^<]*)?\Z")
_OF_TRANSFORMERS = {"tools", "documents"}  # arguments of apply_chat_template that it hands to the template


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
        for name in self.arguments:
            if name in own or not re.search(rf"\b{re.escape(name)}\b", str(tokenizer.chat_template)):
                raise BadInput(
                    f"chat_template_kwargs: the policy's chat template has no argument {name!r}; look it up in the "
                    f"model's tokenizer_config.json or chat_template.jinja"
                )

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a prompt, up to where the model goes on.

        Where the template has no system role, the system text stands before the first question.

        Raises:
            BadInput: If the template refuses the conversation.
        """
        if messages and messages[0]["role"] == "system" and not self.has_system_role:
            messages = merge_system(messages)
        return list(self._apply(messages, tokenize=True, return_dict=False))

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

    @cached_property
    def opened(self) -> str:
        """What the template writes of an answer: the end of a prompt, from the tag on that opens it."""
        probe: list[Message] = [{"role": "user", "content": _USER}]
        prompt, asked = self._render(probe), self._render(probe, add_generation_prompt=False)
        # What stands between the question and the answer. Some templates have the same in both renderings.
        grown = prompt != asked and prompt.startswith(asked)
        tail = prompt.removeprefix(asked) if grown else prompt.rpartition(_USER)[2]
        found = _OPENED.search(tail)
        return found[0] if found else ""

    @cached_property
    def has_system_role(self) -> bool:
        """Whether the template shows a system message: some refuse it, some drop it."""
        probe: list[Message] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}]
        try:
            return _SYSTEM in self._render(probe)
        except BadInput:
            return False

    @cached_property
    def _hidden(self) -> frozenset[int]:
        """Special tokens but the tags."""
        added = self.tokenizer.added_tokens_decoder
        special = {token for token, content in added.items() if content.special} | set(self.tokenizer.all_special_ids)
        return frozenset(token for token in special if str(self.tokenizer.convert_ids_to_tokens(token)) not in TAGS)

    def _render(self, messages: Sequence[Message], **options: bool) -> str:
        return str(self._apply(messages, tokenize=False, **options))

    def _apply(self, messages: Sequence[Message], **options: bool) -> Any:
        settings = self.arguments | {"add_generation_prompt": True} | options
        try:
            return self.tokenizer.apply_chat_template(list(messages), **settings)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise BadInput(
                f"model.policy: its chat template refuses a conversation of {roles}: {error}; use another policy, or "
                f"set what it needs by model.chat_template_kwargs"
            ) from error


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation whose system text stands at the head of the first question instead."""
    system, *rest = messages
    texts = [system["content"]]
    if rest and rest[0]["role"] == "user":
        texts.append(rest.pop(0)["content"])
    return [{"role": "user", "content": "\n\n".join(filter(None, texts))}, *rest]
