"""The client of a vLLM server, against one that answers as ours does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest
import torch

from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.judge.model import ModelJudge
from omnithink_pl.model.policy import EMBEDDED, Policy, load_policy, named_weights
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.vllm import VLLMServer
from omnithink_pl.rollout.vllm.weight_parts import weight_parts
from tests.distributed.ranks import DDP, EQUAL, SHARDED, checkpoint, distance, run
from tests.rollout.agreement import distance as logprob_distance
from tests.rollout.agreement import tokens
from tests.rollout.vllm.loopback import loopback
from tests.vllm.engines import perturb


def other_weights() -> Policy:
    policy = load_policy(EMBEDDED)
    perturb(policy, 0.3)
    return policy


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with loopback(other_weights(), tmp_path / "pushes") as address:
        yield address


def attached(url: str) -> tuple[VLLMServer, Policy]:
    engine, policy = VLLMServer(url), load_policy(EMBEDDED)
    engine.attach(policy)
    return engine, policy


def prompts(policy: Policy) -> list[list[int]]:
    return [policy.encode([{"role": "user", "content": f"What is {n} + 4?"}]) for n in range(3)]


def test_law_6_the_trainer_and_a_server_that_answers_as_ours_agree_after_every_sync(url: str) -> None:
    engine, policy = attached(url)
    few = Sampling(2, max_tokens=6), prompts(policy)[:2]
    assert logprob_distance(engine, policy.model, *few) < 1e-4
    perturb(policy, 0.05)
    assert logprob_distance(engine, policy.model, *few) > 1e-2
    engine.sync()
    assert logprob_distance(engine, policy.model, *few) < 1e-4


def test_completions_of_weights_that_another_run_has_pushed_are_refused(url: str) -> None:
    engine, policy = attached(url)
    attached(url)
    with pytest.raises(EngineFailure, match=r"samples from other weights .*another run uses it too"):
        engine.generate(prompts(policy), Sampling(1, max_tokens=4), range(3))


def test_a_server_that_was_restarted_is_not_sampled_from(url: str, tmp_path: Path) -> None:
    engine, policy = attached(url)
    with loopback(other_weights(), tmp_path / "pushes") as restarted:
        engine.url = restarted
        engine.sync()
        with pytest.raises(EngineFailure, match=r"samples from other weights \(version 'default'\).*was restarted"):
            engine.generate(prompts(policy), Sampling(1, max_tokens=4), range(3))


def test_half_a_push_is_sampled_from_by_nobody_and_the_next_run_begins_anew(url: str) -> None:
    engine, policy = attached(url)
    killed = VLLMServer(url)
    killed._start_update("killed")
    for part in islice(weight_parts(named_weights(policy.model), 1 << 16), 2):
        killed._post("/update_weights", {"update_info": asdict(part)})
    with pytest.raises(EngineFailure, match=r"samples from other weights \(version 'killed, incomplete'\)"):
        engine.generate(prompts(policy), Sampling(1, max_tokens=4), range(3))
    engine, policy = attached(url)
    assert logprob_distance(engine, policy.model, Sampling(2, max_tokens=6), prompts(policy)[:1]) < 1e-4


def test_the_base_model_does_not_judge_on_a_server_that_processes_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnithink_pl.judge.model.process_count", lambda: 2)
    policy = load_policy(EMBEDDED)
    policy.model.peft_config = {}  # type: ignore[assignment]
    with pytest.raises(BadInput, match=r"judge\.base: all processes share the engine"):
        ModelJudge(base=True).attach(policy, VLLMServer())


def on_server(url: str) -> list[str]:
    return ["--config=configs/rollout/vllm_server.yaml", f"--model.engine.init_args.url={url}"]


@pytest.mark.slow
def test_processes_that_share_a_server_train_as_one_and_only_the_first_pushes(tmp_path: Path) -> None:
    weights, pushes = {}, {}
    for name, ranks, strategy in (("1", 1, []), ("2", 2, DDP), ("sharded", 2, SHARDED)):
        log = tmp_path / f"{name}.pushes"
        with loopback(other_weights(), log) as url:
            assert run(tmp_path / name, *strategy, *on_server(url), ranks=ranks) == [0] * ranks
        weights[name] = checkpoint(tmp_path / name)["state_dict"]
        runs, numbers = zip(*(line.split("-") for line in log.read_text().splitlines()), strict=True)
        assert len(set(runs)) == 1
        pushes[name] = list(numbers)
    for name in ("2", "sharded"):
        assert distance(weights[name], weights["1"]) < EQUAL
        assert pushes[name] == pushes["1"]
    before = {f"model.{name}": value for name, value in load_policy(EMBEDDED).model.state_dict().items()}
    assert distance(before, weights["1"]) > EQUAL * 1000


@pytest.mark.slow
def test_a_server_that_dies_ends_all_processes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with loopback(other_weights(), tmp_path / "pushes", fail_at=30) as url:
        ended = run(tmp_path, *DDP, *on_server(url), ranks=2)
    assert ended == [1, 1]
    assert "answered 500 to /inference/v1/generate: b'the engine has died'" in capfd.readouterr().err


def test_seeds_repeat_and_differ(url: str) -> None:
    engine, policy = attached(url)
    sampling = Sampling(2, max_tokens=8)
    with torch.no_grad():
        first, again, other = (tokens(engine.generate(prompts(policy), sampling, range(s, s + 3))) for s in (7, 7, 20))
    assert first == again
    assert first != other
