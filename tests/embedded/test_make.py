"""The policy is remade from nothing, the same from the same seed."""

from __future__ import annotations

import hashlib
import json
from itertools import islice

import pytest
import torch

from omnithink_pl.embedded.make import BATCH, batches, demonstrations, make
from omnithink_pl.model.policy import Policy, load_policy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Policy]:
    """Policies after one batch of training."""
    directory = tmp_path_factory.mktemp("made")
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        make(directory / name, seed, steps=1)
    return {name: load_policy(str(directory / name)) for name in ("one", "same", "other")}


def test_the_same_seed_makes_the_same_policy_and_another_seed_another(made: dict[str, Policy]) -> None:
    state = made["one"].model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in made["same"].model.state_dict().items())
    assert not all(torch.equal(state[key], value) for key, value in made["other"].model.state_dict().items())


def test_the_demonstrations_are_those_that_the_packaged_policy_was_trained_on() -> None:
    """Fails when problems or prompts changed: the policy must be made again then."""
    shown = [(one.prompt, one.completion) for one in islice(demonstrations(seed=0), 4000)]
    assert hashlib.sha256(json.dumps(shown).encode()).hexdigest().startswith("800ccb0eebe38f1d")


def test_the_packaged_tokenizer_is_the_one_that_is_made_now(made: dict[str, Policy]) -> None:
    assert made["one"].tokenizer.get_vocab() == load_policy("embedded").tokenizer.get_vocab()


def test_the_stream_is_a_pure_function_of_its_seed_and_batches_carry_it_whole() -> None:
    policy = load_policy("embedded")
    (batch,) = batches(policy.tokenizer, seed=5, steps=1)
    stream = demonstrations(seed=5, taught=BATCH)
    for prompt, completion in batch:
        shown = next(stream)
        assert shown.prompt in policy.tokenizer.decode(prompt)
        assert policy.decode(completion) == shown.completion
        assert completion[-1] == policy.eos_id
