"""The examples in docs/rewards.md are what the rewards say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from omnithink_pl.evaluation.score import score_completions
from omnithink_pl.rewards import FormatReward, MathReward, QAReward, Reward, TagsReward
from tests.rewards.groups import SayingSandbox, answered, outcome

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()


def rows(section: str, columns: int) -> list[list[str]]:
    """The example rows of a section, without their code marks."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")[-columns:]]
        for line in text.splitlines()
        if line.startswith("|") and "`" in line
    ]


@pytest.mark.parametrize(("section", "reward"), [("Format", FormatReward()), ("Tags", TagsReward())])
def test_examples_of_layout(section: str, reward: Reward) -> None:
    assert len(rows(section, 2)) == 4
    for completion, value in rows(section, 2):
        assert outcome(reward, "5", completion).value == float(value.rstrip("| ")), completion


@pytest.mark.parametrize(("section", "make"), [("Math", MathReward), ("Question answering", QAReward)])
def test_examples_of_answers(section: str, make: type[Reward]) -> None:
    reward = make()
    assert len(rows(section, 3)) >= 5
    for reference, answer, value in rows(section, 3):
        got = outcome(reward, reference, answered(answer))
        assert (str(got.state) if got.value is None else f"{got.value:g}") == value.rstrip("| "), (reference, answer)
    reward.close()


def test_examples_of_rows_to_score_can_be_read(tmp_path: Path) -> None:
    from omnithink_pl.embedded import EmbeddedCode, EmbeddedMath, EmbeddedQA
    from omnithink_pl.tasks import QA, Code, Math

    (block,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    lines = [line for line in block.splitlines() if "uid" not in line]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    tasks = {"math": Math(EmbeddedMath()), "qa": QA(EmbeddedQA()), "code": Code(EmbeddedCode(), SayingSandbox())}
    groups = score_completions(path, tasks, 0)
    for task in tasks.values():
        task.close()
    assert [json.loads(line)["task"] for line in lines] == [group.task for group in groups] == ["math", "qa", "code"]
    assert [group.scores[0].primary.value for group in groups] == [1.0, None, 1.0]
