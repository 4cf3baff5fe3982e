"""Completions of a user's file: read and scored without a policy, and by ``main.py score``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from main import CONFIGS, main
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.score import score_completions
from omnithink_pl.rewards import Reward, Rubric
from omnithink_pl.types import Example, Group, Options, Outcome, UnitTests
from tests.rewards.groups import answered

OPTIONS = {"options": ["Paris", "Rome"], "answers": ["Paris"]}
DOUBLE = {"functional": "def check(f):\n    assert f(2) == 4\ncheck(f)", "entry_point": "f"}
ECHO = {"inputs": ["3\n"], "outputs": ["3\n"]}


def row(task: str, completion: str, reference: object = "2", **more: object) -> dict[str, object]:
    return {"task": task, "question": "What?", "reference": reference, "completion": completion, **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "completions.jsonl"


def test_every_component_of_every_row_is_shown_and_tracked(
    path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.artifacts import load_text
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("omnithink_pl.modules.MultiTaskGRPO.configure_model", None)  # no policy is loaded
    given = [
        row("math", answered("2"), uid="sum"),
        row("math", "two [bold]and[/bold] [[A]]"),
        row("code", answered("def f(x):\n    return 2 * x"), DOUBLE),
        row("writing", answered("A story."), "Another."),
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in given))
    config = f"--config={CONFIGS / 'curriculum.yaml'}"
    main(["score", config, f"--completions={path}", f"--trainer.logger.init_args.tracking_uri={tracking_uri}"])
    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert (run.info.status, run.data.tags["kind"]) == ("FINISHED", "score")
    assert f"completions: {path}" in load_text(f"{run.info.artifact_uri}/config.yaml")
    table = json.loads(load_text(f"{run.info.artifact_uri}/scores.json"))
    rows = [dict(zip(table["columns"], cells, strict=True)) for cells in table["data"]]
    assert [row["task"] for row in rows] == [row["task"] for row in given]
    assert [row["total"] for row in rows] == [1.2, 0.0, 1.2, "failed"]
    assert rows[1]["reward"] == "undefined: no answer segment"
    assert str(rows[3]["reward"]).startswith("failed: judge unavailable")
    shown = capsys.readouterr().out
    for text in ("sum", "two [bold]and[/bold] [[A]]", "undefined: no answer segment", "1.2", "line 3"):
        assert text in shown


class Length(Reward):
    """Gives 1 to a text as long as the task's ``length``."""

    name = "length"

    def __init__(self, length: int) -> None:
        self.length = length

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        return [[Outcome.of(float(len(c.text) == self.length)) for c in group.completions] for group in groups]


def examples(split: str, seed: int) -> list[Example]:
    return [Example("qa", f"{split}-1", f"Asked with seed {seed}?", "yes")]


TASKS: Any = {
    name: SimpleNamespace(rubric=Rubric(((Length(n), 1.0),)), examples=examples)
    for n, name in enumerate(["math", "qa"])
}


def scored(path: Path, *lines: str) -> list[tuple[Example, str, float | None]]:
    path.write_text("\n".join(lines), encoding="utf-8")
    found = score_completions(path, TASKS, seed=7)
    return [(one.group.example, one.group.completions[0].text, one.scores[0].primary.value) for one in found]


def test_examples_are_given_in_full_or_found_by_uid_and_scored_by_their_own_task(path: Path) -> None:
    text = "\u2028\x85\x0c"  # separators of lines, but not of the file's
    by_uid = {"task": "qa", "uid": "test-1", "completion": "x"}
    rows = [row("math", text), "", by_uid, row("qa", "x", OPTIONS), row("qa", "x", DOUBLE), row("qa", "x", ECHO)]
    found = scored(path, *(json.dumps(one, ensure_ascii=False) if one else "" for one in rows))
    assert [(said, value) for _, said, value in found] == [(text, 0.0)] + [("x", 1.0)] * 4
    assert (found[0][0].uid, found[0][0].question) == ("line 1", "What?")
    assert found[1][0].question == "Asked with seed 7?"
    assert [example.reference for example, *_ in found[2:]] == [
        Options(("Paris", "Rome"), ("Paris",)),
        UnitTests(**DOUBLE),
        UnitTests(("3\n",), ("3\n",)),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: not JSON"),
        ("[]", r"line 2: a row is an object with the text of a 'completion'"),
        (row("poetry", "x"), r"line 2: task 'poetry' is unknown; choose from \['math', 'qa'\]"),
        ({"task": ["qa"], "completion": ""}, r"line 2: task \['qa'\] is unknown"),
        ({"task": "qa", "uid": "none", "completion": ""}, r"line 2: data\.tasks\.qa has no example 'none'"),
        ({"task": "math", "reference": "2", "completion": ""}, r"line 2: 'question' is missing"),
        (row("math", "x", 2), r"line 2: 'reference' is text, or an object with options"),
        (row("math", "x", {"inputs": []}), r"line 2: 'reference' lacks 'outputs'"),
        (row("qa", "x", {"options": "AB", "answers": []}), r"line 2: 'reference': 'AB' is no list of texts"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named_with_the_cure(line: object, message: str, path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        scored(path, json.dumps(row("math", "")), line if isinstance(line, str) else json.dumps(line))


def test_a_file_without_rows_is_named(path: Path) -> None:
    with pytest.raises(BadInput, match=r"completions: cannot read .*completions\.jsonl"):
        score_completions(path, TASKS, seed=0)
    with pytest.raises(BadInput, match=r"completions: .*completions\.jsonl has no rows"):
        scored(path, "\n")
