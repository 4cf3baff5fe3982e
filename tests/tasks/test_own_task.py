"""Rows, tasks and rewards of a user's own; the guide's example is run as it is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from main import main
from omnithink_pl.errors import BadInput, RewardFailure
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.rewards import FunctionReward
from omnithink_pl.types import Completion, Example, Group, Outcome

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "own_task.md"


def blocks() -> dict[str, str]:
    """The guide's files by name."""
    text = GUIDE.read_text()
    return dict(re.findall(r"`(\w+\.\w+)`[^`]*:\n\n```\w+\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the guide's files, from which modules can be imported."""
    for name, body in blocks().items():
        (tmp_path / name).write_text(body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def fit(directory: Path, *more: str) -> MultiTaskGRPO:
    small = ["--data.batch_size=2", "--model.sampling.group_size=2", "--curriculum.stages.0.steps=1"]
    evaluation = ["--evaluation.evaluator.prompts=2", "--evaluation.evaluator.samples=1"]
    cli = main(
        [
            "fit",
            f"--config={directory}/sql.yaml",
            f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
            *small,
            *evaluation,
            *more,
        ]
    )
    assert cli is not None
    model = cli.model
    assert isinstance(model, MultiTaskGRPO)
    return model


def test_the_guides_task_is_trained_beside_the_others(guide: Path) -> None:
    assert blocks().keys() == {"sql_reward.py", "sql.yaml", "sql.jsonl"}
    model = fit(guide)
    assert {group.task for group in model.last_rollouts} == {"sql"}
    assert len(list(guide.rglob("policy"))) == 1


def test_two_tasks_of_one_kind_keep_apart(guide: Path) -> None:
    rows = guide / "sums.jsonl"
    rows.write_text("".join(f'{{"prompt": "{n} plus 1?", "answer": {n + 1}}}\n' for n in range(10)))
    (guide / "sql.yaml").write_text(f"""
        curriculum: {{stages: [{{tasks: {{sums: 1, math: 1}}, steps: 1}}]}}
        model: {{kl: {{beta: 0.1}}}}
        data:
          tasks:
            sums:
              class_path: omnithink_pl.tasks.Math
              init_args:
                source:
                  class_path: omnithink_pl.sources.Table
                  init_args: {{path: {rows}, columns: {{question: prompt, reference: answer}}}}
    """)
    model = fit(guide)
    assert {group.task for group in model.last_rollouts} == {"sums", "math"}
    data: Any = model.trainer.datamodule  # type: ignore[attr-defined]
    assert {example.task for example in data.held_out["sums"]} == {"sums"}
    assert {example.task for example in data.held_out["math"]} == {"math"}


def group(text: str, reference: str = "1") -> Group:
    return Group(Example("art", "row7", "?", reference), (), (Completion((), (), text, "stop"),))


@pytest.mark.parametrize(("returned", "outcome"), [(0.25, Outcome.of(0.25)), (True, Outcome.of(1.0))])
def test_what_a_function_returns_is_the_reward(returned: float, outcome: Outcome) -> None:
    seen: list[tuple[str, Any]] = []

    def judged(completion: str, reference: Any) -> float:
        seen.append((completion, reference))
        return returned

    assert FunctionReward(judged).score([group("all of it")]) == [[outcome]]
    assert seen == [("all of it", "1")]


def test_a_function_that_cannot_say_is_undefined() -> None:
    ((outcome,),) = FunctionReward(lambda completion, reference: None).score([group("x")])
    assert outcome == Outcome.undefined("the function cannot say")


@pytest.mark.parametrize("function", [lambda c, r: 1 / 0, lambda c, r: "much", lambda c, r: next(iter(()))])
def test_an_error_in_a_function_ends_the_run_and_names_the_row(function: Callable[[str, Any], float]) -> None:
    with pytest.raises(RewardFailure, match=r"task 'art', row row7: \w+: .*; it must return a number from 0 to 1"):
        FunctionReward(function).score([group("x")])


def test_a_name_that_metrics_cannot_have_is_refused(guide: Path) -> None:
    (guide / "sql.yaml").write_text(
        (guide / "sql.yaml").read_text().replace("sql:", "my/sql:").replace("{sql", "{my/sql")
    )
    with pytest.raises(BadInput, match=r"data\.tasks\.my/sql: name a task by letters, digits and _"):
        fit(guide)
