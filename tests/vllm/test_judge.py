"""A judge behind vLLM's own OpenAI-compatible server, and one on the engine that samples the rollouts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.judge import Comparison, Preference
from omnithink_pl.judge.endpoint import Endpoint, OpenAIJudge
from omnithink_pl.rewards import WritingReward
from omnithink_pl.rollout.vllm import ColocatedVLLM
from omnithink_pl.types import Completion, Example, Group, Outcome, State
from tests.judge.adapted import CONTEXT as LONG
from tests.judge.adapted import check_that_the_base_judges
from tests.vllm.processes import vllm_server
from tests.vllm.scripted_judge import CONTEXT, save_judge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("judge")
    save_judge(directory)
    arguments = ("--served-model-name=judge", "--enforce-eager", f"--max-model-len={CONTEXT}")
    with vllm_server("vllm.entrypoints.openai.api_server", directory, *arguments) as address:
        yield f"{address}/v1"


@pytest.fixture
def judge(url: str, tmp_path: Path) -> Iterator[OpenAIJudge]:
    judge = OpenAIJudge("judge", Endpoint(url, None, attempts=2), cache=f"{tmp_path}/verdicts.sqlite", max_tokens=8)
    yield judge
    judge.close()


def test_verdicts_come_back_in_both_orders(judge: OpenAIJudge) -> None:
    asked = [("A tale.", "good", "dull"), ("A tale.", "dull", "good"), ("A tale.", "good", "a good one")]
    comparisons = [Comparison(*texts) for texts in asked]
    assert judge.compare(comparisons) == [Preference.WIN, Preference.LOSS, Preference.TIE]
    first = judge.metrics()
    assert (first["win_rate"], first["flip_rate"], first["unparseable"], first["failed"]) == (0.5, 0.0, 0.0, 0.0)
    assert first["completion_tokens"] == 2 * 6, "a verdict and EOS, each of six times"
    assert first["prompt_tokens"] > 6 * 200
    assert judge.compare(comparisons) == [Preference.WIN, Preference.LOSS, Preference.TIE]
    assert judge.metrics()["cached"] == 1.0


@pytest.mark.parametrize(
    ("prompt", "metric", "rate"), [("first", "flip_rate", 1.0), ("mumble once", "unparseable", 0.5)]
)
def test_a_judge_that_goes_by_position_or_is_reminded_to_decide_ties_and_is_counted(
    judge: OpenAIJudge, prompt: str, metric: str, rate: float
) -> None:
    assert judge.compare([Comparison(prompt, "good", "dull")]) == [Preference.TIE]
    assert judge.metrics()[metric] == rate


def test_nothing_becomes_a_zero(judge: OpenAIJudge) -> None:
    prompts = ["A tale.", "mumble", "A tale."]
    texts = ["good", "good", "word " * CONTEXT]
    groups = [
        Group(
            Example("writing", text[:9], prompt, "dull"),
            (1,),
            (Completion((1,), (0.0,), f"<think></think><answer>{text}</answer>", "stop"),),
        )
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    reward = WritingReward(judge)
    (won,), (mumbled,), (long,) = reward.score(groups)
    assert won == Outcome.of(1.0)
    assert (mumbled.state, long.state) == (State.FAILED, State.FAILED)
    assert "unparseable" in mumbled.reason
    assert "request refused" in long.reason
    metrics = reward.metrics()
    assert metrics["judge/failed"] == pytest.approx(2 / 3)
    assert metrics["judge/win_rate"] == 1.0
    assert metrics["judge/unparseable"] == 6 / 8, "three replies in each order, beside two verdicts"
    assert metrics["judge/retries"] == 0, "neither is mended by asking again"


def test_a_model_that_the_server_does_not_have_is_a_mistake_of_the_config(url: str) -> None:
    judge = OpenAIJudge("another", Endpoint(url, None, attempts=1), cache=None)
    with pytest.raises(ValueError, match="HTTP 404; check base_url and model"):
        judge.compare([Comparison("A tale.", "good", "dull")])
    judge.close()


def test_the_base_of_an_adapted_policy_judges_through_its_engine() -> None:
    check_that_the_base_judges(lambda: ColocatedVLLM(kv_cache_gib=0.05, max_context=LONG))
