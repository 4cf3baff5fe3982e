"""The engine in a server process on this machine, its weights pushed from here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.errors import EngineFailure
from omnithink_pl.model.policy import EMBEDDED, Policy, load_policy, named_weights
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.vllm import VLLMServer
from tests.callbacks.test_resume import histories
from tests.distributed.ranks import checkpoint
from tests.rollout.agreement import distance, tokens
from tests.vllm.engines import perturb
from tests.vllm.processes import SETTINGS, TORCHRUN, run, vllm_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with made-up weights in the shape of the embedded policy."""
    directory = tmp_path_factory.mktemp("served")
    policy = load_policy(EMBEDDED)
    policy.model.save_pretrained(directory)
    policy.tokenizer.save_pretrained(directory)
    with vllm_server("omnithink_pl.rollout.vllm.serve", directory, "--load-format=dummy") as address:
        yield address


@pytest.fixture(scope="module")
def served(url: str) -> tuple[VLLMServer, Policy]:
    policy = load_policy(EMBEDDED)
    engine = VLLMServer(url)
    engine.attach(policy)
    return engine, policy


def prompts(policy: Policy) -> list[list[int]]:
    return [policy.encode([{"role": "user", "content": f"What is {n} + 4?"}]) for n in range(6)]


def test_law_6_server_and_trainer_agree_after_every_sync(served: tuple[VLLMServer, Policy]) -> None:
    engine, policy = served
    for _ in range(2):
        for sampling in (Sampling(4, 1.0, 1.0, 12), Sampling(4, 0.8, 0.9, 12)):
            assert distance(engine, policy.model, sampling, prompts(policy)) < 1e-4
        version = policy.version
        perturb(policy, 0.05)
        policy.version = version  # as if nobody had said so
        engine.sync()
        assert distance(engine, policy.model, prompts=prompts(policy)) > 0.1, "the same version is not pushed again"
        policy.weights_changed()
        engine.sync()
    assert distance(engine, policy.model, prompts=prompts(policy)) < 1e-4


def test_completions_of_weights_that_another_run_pushes_or_has_half_pushed_are_refused(
    url: str, served: tuple[VLLMServer, Policy]
) -> None:
    engine, policy = served
    killed = VLLMServer(url)
    killed._start_update("killed")
    with pytest.raises(EngineFailure, match=r"samples from other weights \(version 'killed, incomplete'\)"):
        engine.generate(prompts(policy), Sampling(1, max_tokens=4), range(6))
    weights = list(named_weights(policy.model))
    with pytest.raises(EngineFailure, match=r"answered 500 to /update_weights.*has no value for the engine"):
        killed._push(iter(weights[:-1]), "without the last")
    engine.attach(policy)
    assert distance(engine, policy.model, prompts=prompts(policy)) < 1e-4


def test_a_seed_repeats_the_completions(served: tuple[VLLMServer, Policy]) -> None:
    engine, policy = served
    sampling = Sampling(4, max_tokens=10)
    first, again, other = (
        tokens(engine.generate(prompts(policy), sampling, range(first, first + 6))) for first in (7, 7, 20)
    )
    assert first == again
    assert first != other
    assert all(len(set(group)) > 1 for group in first)


def test_what_is_sampled_beside_the_trainer_is_what_it_would_wait_for_and_a_push_waits(
    served: tuple[VLLMServer, Policy],
) -> None:
    engine, policy = served
    sampling = Sampling(16, max_tokens=48)
    expected = tokens(engine.generate(prompts(policy), sampling, range(6)))
    begun = engine.begin(prompts(policy), sampling, range(6))
    perturb(policy)
    engine.sync()
    assert begun.done(), "new weights would have changed it"
    assert tokens(begun.result()) == expected


def test_processes_that_share_the_server_train_with_the_same_model_throughout(
    url: str, tmp_path: Path, tracking_uri: str
) -> None:
    overlay = SETTINGS.index("--config=configs/rollout/vllm.yaml")
    own = [argument for argument in SETTINGS[overlay + 1 :] if "kv_cache_gib" not in argument]
    own += ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    own += ["--model.rollouts.async_rewards=true"]  # and so sample the second step of each stage beside the first
    done = run(
        tmp_path,
        settings=["fit", "--config=configs/rollout/vllm_server.yaml", *own, f"--model.engine.init_args.url={url}"],
        launcher=TORCHRUN,
    )
    assert done.returncode == 0, done.stderr
    assert checkpoint(tmp_path)["steps_done"] == 4
    assert max(value for _, value in histories(tmp_path)["train/logprob_diff_max"]) <= 1e-4


def test_a_server_that_is_not_there_is_named_with_the_command_that_starts_it() -> None:
    with pytest.raises(EngineFailure, match=r"no answer .*127\.0\.0\.1:1 .*rollout\.vllm\.serve"):
        VLLMServer("http://127.0.0.1:1").attach(load_policy(EMBEDDED))
