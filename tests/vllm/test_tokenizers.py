"""Tokenizers, where vLLM has brought packages that change how transformers reads them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from omnithink_pl.model.policy import load_tokenizer
from tests.model.test_chat import MISTRAL, tokenizer


def test_a_tokenizer_with_a_template_is_taken_where_mistral_common_would_have_none(tmp_path: Path) -> None:
    assert find_spec("mistral_common"), "vLLM brings it, and transformers then prefers it"
    tokenizer(MISTRAL).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    (tmp_path / "tekken.json").write_text("{}")
    assert load_tokenizer(str(tmp_path)).chat_template == MISTRAL
