"""When the engine cannot go on: a clear error with the setting to change, and a checkpoint to continue from."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from omnithink_pl.errors import EngineFailure
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.tiny import TinyPolicy, tiny_qwen
from tests.vllm.policies import PROMPTS, attached
from tests.vllm.runs import checkpoint, run
from tests.vllm.test_ranks import TWO


def test_too_small_a_cache_names_its_setting() -> None:
    engine = ColocatedVLLM(kv_cache_gib=1e-5)
    with pytest.raises(EngineFailure, match=r"could not start: .*raise model\.engine\.init_args\.kv_cache_gib"):
        engine.attach(TinyPolicy(tiny_qwen()))  # type: ignore[arg-type]


def test_a_context_beyond_the_policys_names_its_setting() -> None:
    with pytest.raises(EngineFailure, match=r"could not start: .*lower model\.engine\.init_args\.max_context"):
        attached(tiny_qwen(), max_context=4096)


def test_an_engine_that_dies_says_how_to_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = attached(tiny_qwen())
    monkeypatch.setattr(nn.Module, "__call__", lambda *_, **__: exec('raise RuntimeError("a kernel died")'))
    with pytest.raises(EngineFailure, match=r"could not generate: continue with --ckpt_path last.*a kernel died"):
        engine.generate(PROMPTS, Sampling(2, max_tokens=4), seeds=range(4))


def test_a_run_whose_engine_dies_ends_with_one_line_and_can_be_continued(tmp_path: Path, tracking_uri: str) -> None:
    dying = "[{class_path: tests.vllm.watcher.DieAt, init_args: {call: 4}}]"
    died = run(tmp_path, f"--trainer.callbacks={dying}")
    assert died.returncode == 1
    assert "error: vLLM could not generate: continue with --ckpt_path last" in died.stderr
    assert "Traceback" not in died.stderr
    assert checkpoint(tmp_path)["steps_done"] == 1
    assert run(tmp_path, "--ckpt_path=last").returncode == 0


def test_no_process_waits_for_one_that_died(tmp_path: Path, tracking_uri: str) -> None:
    dying = "[{class_path: tests.vllm.watcher.DieAt, init_args: {call: 4, rank: 1}}]"
    died = run(tmp_path, *TWO[:3], f"--trainer.callbacks={dying}")  # its time limit is what fails if one waits
    assert died.returncode != 0
    assert "error: vLLM could not generate" in died.stderr
    assert checkpoint(tmp_path)["steps_done"] == 1
