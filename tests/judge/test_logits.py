"""A judge that is read from the logits of one token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from omnithink_pl.errors import BadInput
from omnithink_pl.judge import Comparison, JudgeUnavailable, Preference
from omnithink_pl.judge.logits import LogitJudge, letter_margins
from omnithink_pl.judge.pairwise import OrderedPair
from omnithink_pl.model.policy import Policy, load_policy, policy_path, ready_to_train
from omnithink_pl.rewards import WritingReward
from omnithink_pl.types import Message
from tests.tiny import teacher_forced, tiny_qwen

BIAS = 5.0  # what answer A gains by its place, in nats


class Biased(torch.nn.Module):
    """A model whose tokens are characters; it prefers answer A, and a higher ``quality N`` a little."""

    device = "cpu"

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int) -> Any:
        a, b = (float(found) for found in re.findall(r"quality ([\d.]+)", "".join(map(chr, input_ids[0].tolist()))))
        logits = torch.zeros(1, logits_to_keep, 200)
        logits[0, -1, ord("A")], logits[0, -1, ord("B")] = BIAS + a, b
        return SimpleNamespace(logits=logits)


class Characters:
    """Its policy."""

    context = 3000
    model = Biased()
    tokenizer = SimpleNamespace(encode=lambda text, add_special_tokens: [ord(text)])

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return [ord(letter) for message in messages for letter in message["content"]]


def scripted(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> LogitJudge:
    judge = LogitJudge("a/model", **settings)
    monkeypatch.setattr(judge, "_load", Characters)
    return judge


ASKED = [("quality 2", "quality 1"), ("quality 1", "quality 2"), ("quality 1", "quality 1")]


def test_a_preference_for_a_place_cancels_and_shows_as_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = scripted(monkeypatch)
    comparisons = [Comparison("q", *texts) for texts in (*ASKED, ASKED[0])]
    wanted = [Preference.WIN, Preference.LOSS, Preference.TIE, Preference.WIN]
    assert judge.compare(comparisons) == wanted
    metrics = judge.metrics()
    assert (metrics["win_rate"], metrics["flip_rate"], metrics["failed"]) == (2.5 / 4, 1.0, 0.0)
    assert judge.compare([]) == []


def test_a_lead_within_the_margin_is_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = scripted(monkeypatch, margin=0.5)
    answers = ["quality 1.4", "quality 1.6", "quality 0.4"]  # leads of 0.4, 0.6 and -0.6
    found = judge.compare([Comparison("q", answer, "quality 1") for answer in answers])
    assert found == [Preference.TIE, Preference.WIN, Preference.LOSS]


def test_a_pair_that_is_too_long_has_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    (verdict,) = scripted(monkeypatch).compare([Comparison("q", "x" * 3000, "quality 1")])
    assert isinstance(verdict, JudgeUnavailable)
    assert verdict.cause == "request refused"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("policy")
    tokenizer = AutoTokenizer.from_pretrained(policy_path("embedded"))
    tiny_qwen(vocab_size=len(tokenizer), max_position_embeddings=2048).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def test_the_margin_is_the_difference_of_the_letters_log_probabilities(saved: str) -> None:
    policy = load_policy(saved)
    prompt = policy.encode([{"role": "user", "content": "Add two and three."}])
    a, b = (policy.tokenizer.encode(letter, add_special_tokens=False) for letter in "AB")
    expected = sum(teacher_forced(policy.model, prompt, a)) - sum(teacher_forced(policy.model, prompt, b))
    assert letter_margins(policy, [prompt]) == [pytest.approx(expected, abs=1e-4)]


def leads(judge: LogitJudge) -> list[Preference | JudgeUnavailable]:
    texts = ["two", "Mia has a dog.", "a b c d e", "Tom"]
    return judge.compare([Comparison("Write.", one, other) for one in texts for other in texts if one != other])


def disturb(policy: Policy) -> None:
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))


def test_the_base_judges_whatever_the_policy_has_become_and_is_loaded_once(
    saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = leads(LogitJudge(saved, dtype="float32"))
    assert len(set(expected)) > 1
    policy, loaded = load_policy(saved), []
    monkeypatch.setattr(
        "omnithink_pl.judge.logits.load_policy", lambda name, **how: loaded.append(name) or load_policy(name, **how)
    )
    judge = LogitJudge(dtype="float32")
    WritingReward(judge).attach(policy, None)  # type: ignore[arg-type]
    disturb(policy)
    assert leads(judge) == leads(judge) == expected
    assert loaded == [saved]
    assert leads(LogitJudge(saved, dtype="bfloat16")) != []


def test_the_base_of_an_adapted_policy_judges_without_a_second_model(
    saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy(saved)
    policy.model = get_peft_model(policy.model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    disturb(policy)
    monkeypatch.setattr("omnithink_pl.judge.logits.load_policy", lambda *a, **k: pytest.fail("a second model"))
    judge = LogitJudge()
    judge.attach(policy, None)  # type: ignore[arg-type]
    monkeypatch.undo()
    found = leads(judge)
    assert found == leads(LogitJudge(saved, dtype="float32"))
    adapted = [policy.encode([{"role": "user", "content": "Add."}])]
    assert letter_margins(policy, adapted) != pytest.approx(letter_margins(load_policy(saved), adapted), abs=1e-3)


def group_of_prompts(policy: Policy) -> list[list[int]]:
    """Of six candidates in both orders, one twice."""
    texts = ["two", "two three", "Mia has a dog.", "Mia has a cat.", "", "Tom", "Tom"]
    pairs = [
        OrderedPair(Comparison("Write.", text, "A dog has Mia."), first) for text in texts for first in (True, False)
    ]
    return [policy.encode(pair.messages(LogitJudge().prompt)) for pair in pairs]


def lengths_read(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every forward pass from now on."""
    lengths: list[int] = []
    own = type(policy.model).forward
    monkeypatch.setattr(
        type(policy.model),
        "forward",
        wraps(own)(lambda *a, input_ids, **k: lengths.append(input_ids.shape[1]) or own(*a, input_ids=input_ids, **k)),
    )
    return lengths


@pytest.mark.parametrize("how", ["plain", "in training", "adapters", "window"])
def test_what_prompts_share_is_read_once_and_changes_no_margin(
    how: str, saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy(saved)
    if how == "in training":
        ready_to_train(policy.model, gradient_checkpointing=True)
    if how == "adapters":
        policy.model = get_peft_model(
            policy.model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        )
    if how == "window":
        mistral = MistralConfig(
            **{k: getattr(policy.model.config, k) for k in ("vocab_size", "hidden_size", "intermediate_size")},
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, sliding_window=100,
        )  # fmt: skip
        policy.model = MistralForCausalLM(mistral)
    prompts, mode = group_of_prompts(policy), policy.model.training
    lengths = lengths_read(policy, monkeypatch)
    alone = [letter_margins(policy, [prompt])[0] for prompt in prompts]
    assert len({round(margin, 4) for margin in alone}) > len(prompts) / 2
    apart, lengths[:] = sum(lengths), []
    assert letter_margins(policy, prompts) == pytest.approx(alone, abs=1e-4)
    assert sum(lengths) == apart if how == "window" else sum(lengths) < 0.6 * apart
    assert policy.model.training == mode


def test_without_a_policy_a_model_must_be_named() -> None:
    with pytest.raises(BadInput, match=r"judge\.model is null.*name a model"):
        LogitJudge().compare([Comparison("q", "a", "b")])
    with pytest.raises(BadInput, match=r"judge\.margin is -1"):
        LogitJudge(margin=-1)
