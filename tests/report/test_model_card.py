"""The card of a trained policy: the matrix's own numbers, the signs of forgetting, metadata that the hub reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report.model_card import ModelCard
from tests.report.matrices import LEARNED, UNMEASURED, matrix

CARD = ModelCard(
    title="curriculum",
    base="Qwen/Qwen2.5-0.5B-Instruct",
    method="MultiTaskGRPO",
    stages=[Stage({"code": 1.0}, 30), Stage({"math": 1.0}, 20, replay={"code": 0.25})],
    matrix=LEARNED,
    settings={"seed": 3},
    system="Think first.",
    max_tokens=56,
)


def read(card: ModelCard) -> huggingface_hub.ModelCard:
    return huggingface_hub.ModelCard(card.markdown("me/mine"))


def row(card: ModelCard, name: str) -> list[str]:
    (line,) = [line for line in read(card).text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_hub_reads_its_metadata() -> None:
    data = read(CARD).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == (CARD.base, "transformers", "text-generation")
    assert "grpo" in data.tags


@pytest.mark.parametrize("base", ["embedded", "/models/mine", "./mine/policy", "~/mine", "gpt2"])
def test_a_base_that_is_no_hub_id_is_named_in_the_text_alone(base: str) -> None:
    card = read(replace(CARD, base=base))
    assert card.data.base_model is None
    assert f"`{base if base[0] != '/' else 'mine'}`, trained by `MultiTaskGRPO`" in card.text


def test_stages_scores_and_intervals_are_those_of_the_run() -> None:
    assert row(CARD, "1") == ["code 1", "30"]
    assert row(CARD, "2") == ["code 0.25, math 1", "20"]
    assert row(CARD, "base") == ["30.0 (25.0 to 35.0)", "40.0 (35.0 to 45.0)", "35.0 (31.5 to 38.5)"]
    assert row(CARD, "after math") == ["60.0 (55.0 to 65.0)", "80.0 (75.0 to 85.0)", "70.0 (66.5 to 73.5)"]
    assert row(CARD, "at the end, greedy") == ["30.0 (25.0 to 35.0)", "40.0 (35.0 to 45.0)", "35.0 (31.5 to 38.5)"]


def test_forgetting_is_base_minus_end_and_says_what_its_interval_shows() -> None:
    half = 100 * (2 * 0.05**2) ** 0.5
    assert half == pytest.approx(7.07, abs=0.01)
    card = replace(CARD, matrix=matrix(base=[0.6, 0.4], s1_code=[0.3, 0.42]))
    assert row(card, "code") == ["+30.0 (+22.9 to +37.1)", "forgotten"]
    assert row(card, "math") == ["−2.0 (−9.1 to +5.1)", "no change beyond the interval"]
    assert row(CARD, "math") == ["−40.0 (−47.1 to −32.9)", "learned"]


def test_what_was_not_measured_is_not_made_up() -> None:
    assert row(replace(CARD, matrix=UNMEASURED), "math")[1] == "not measured"
    text = read(replace(CARD, matrix=ScoreMatrix())).text
    assert "## Scores" not in text
    assert "No stage has ended" in read(replace(CARD, matrix=matrix(base=[0.3, 0.4]))).text


def test_the_example_of_use_is_python_that_names_the_model(tmp_path: Path) -> None:
    program = CARD.markdown(str(tmp_path)).partition("```python\n")[2].partition("```")[0]
    compile(program, "card", "exec")
    assert f'from_pretrained("{tmp_path}")' in program
