"""A language model in this process as judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from omnithink_pl.errors import BadInput
from omnithink_pl.judge import Comparison, JudgeUnavailable, Preference
from omnithink_pl.judge.model import ModelJudge
from omnithink_pl.model.policy import policy_path
from omnithink_pl.rewards import WritingReward
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.types import Completion, Message
from tests.judge.adapted import check_that_the_base_judges
from tests.judge.server import reply
from tests.tiny import tiny_qwen


class Chatty:
    """A policy whose tokens are characters, and an engine that replies as the scripted server does."""

    context = 5000
    model = torch.nn.Linear(1, 1)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return [ord(letter) for letter in messages[1]["content"]]

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[tuple[Completion, ...]]:
        assert (sampling.group_size, sampling.temperature) == (1, 0.0)
        replies = [reply("".join(map(chr, prompt)), biased=False) for prompt in prompts]
        return [(Completion((1, 2, 3), (0.0,) * 3, text, "stop"),) for text in replies]


def test_the_policy_judges_through_its_own_engine_in_both_orders_or_says_why_it_cannot() -> None:
    judge = ModelJudge(max_tokens=50)
    WritingReward(judge).attach(Chatty(), Chatty())
    asked = [("q", "quality 2", "quality 1"), ("q", "quality 1", "quality 2"), ("q", "quality 1", "quality 1 too")]
    assert judge.compare([Comparison(*texts) for texts in asked]) == [Preference.WIN, Preference.LOSS, Preference.TIE]
    metrics = judge.metrics()
    assert (metrics["win_rate"], metrics["completion_tokens"]) == (0.5, 18)
    long, mumbled = judge.compare([Comparison("q", "x" * 5000, "y"), Comparison("mumble", "x", "y")])
    assert (long.cause, mumbled.cause) == ("request refused", "unparseable")


def test_a_second_model_is_loaded_once_and_not_replaced_by_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    class Second(Chatty):
        model = SimpleNamespace(to=lambda device: None)

    monkeypatch.setattr("omnithink_pl.judge.model.load_policy", lambda name: loaded.append(name) or Second())
    monkeypatch.setattr("omnithink_pl.judge.model.TransformersEngine.generate", lambda self, *a: Chatty().generate(*a))
    judge = ModelJudge("second/model", max_tokens=50)
    judge.attach(Chatty(), Chatty())
    for _ in range(2):
        assert judge.compare([Comparison("q", "quality 2", "quality 1")]) == [Preference.WIN]
    assert loaded == ["second/model"]


def test_the_base_of_an_adapted_policy_judges_through_its_engine() -> None:
    check_that_the_base_judges(TransformersEngine)


def test_a_policy_that_cannot_judge_is_refused_with_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"no adapters to take away; set model\.adapter"):
        ModelJudge(base=True).attach(Chatty(), Chatty())
    with pytest.raises(BadInput, match="set one of them"):
        ModelJudge("second/model", base=True)
    shared = Chatty()
    shared.tensor_parallel_size = 2
    with pytest.raises(BadInput, match=r"divided among processes.*Name a second model"):
        ModelJudge().attach(Chatty(), shared)
    with pytest.raises(BadInput, match=r"judge\.model is null.*name a model"):
        ModelJudge().compare([Comparison("q", "a", "b")])


def test_a_model_on_disk_is_loaded_and_asked(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy_path("embedded"))
    model = tiny_qwen(vocab_size=len(tokenizer), max_position_embeddings=4096)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    judge = ModelJudge(str(tmp_path), max_tokens=4)
    (verdict,) = judge.compare([Comparison("Write.", "A story.", "A tale.")])
    assert isinstance(verdict, JudgeUnavailable), "a random model says nothing that could be read"
    assert judge.metrics()["completion_tokens"] > 0
    judge.close()
