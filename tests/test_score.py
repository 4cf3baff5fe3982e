"""``main.py score``: rewards of completions from a file, without a policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from main import CONFIGS, main
from omnithink_pl.errors import BadInput
from tests.rewards.groups import answered

BASE = f"--config={CONFIGS / 'curriculum.yaml'}"
OPTIONS = {"options": ["Paris", "Rome"], "answers": ["Paris"]}
DOUBLE = {"functional": "def check(f):\n    assert f(2) == 4\ncheck(f)", "entry_point": "f"}
ECHO = {"inputs": ["3\n"], "outputs": ["3\n"]}


def row(task: str, completion: str, reference: object = "2", **more: object) -> dict[str, object]:
    return {"task": task, "question": "What?", "reference": reference, "completion": completion, **more}


ROWS = [
    row("math", answered("2"), uid="sum"),
    row("math", "two [bold]and[/bold] [[A]]"),
    row("qa", answered("Rome"), OPTIONS),
    row("code", answered("def f(x):\n    return 2 * x"), DOUBLE),
    row("code", answered("print(input())"), ECHO),
    row("writing", answered("A story."), "Another."),
]


def score(directory: Path, *lines: str) -> list[dict[str, object]]:
    """Score a file; the rows as they went to MLflow."""
    from mlflow.artifacts import load_text
    from mlflow.tracking import MlflowClient

    path = directory / "completions.jsonl"
    path.write_text("\n".join(lines))
    uri = f"sqlite:///{directory}/mlflow.db"
    main(["score", BASE, f"--completions={path}", f"--trainer.logger.init_args.tracking_uri={uri}"])
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert (run.info.status, run.data.tags["kind"]) == ("FINISHED", "score")
    assert f"completions: {path}" in load_text(f"{run.info.artifact_uri}/config.yaml")
    table = json.loads(load_text(f"{run.info.artifact_uri}/scores.json"))
    return [dict(zip(table["columns"], cells, strict=True)) for cells in table["data"]]


@pytest.mark.usefixtures("tracking_uri")
def test_every_component_of_every_row_is_shown_and_tracked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("omnithink_pl.modules.MultiTaskGRPO.configure_model", None)  # no policy is loaded
    rows = score(tmp_path, *map(json.dumps, ROWS), "")
    assert [row["task"] for row in rows] == [row["task"] for row in ROWS]
    assert [row["total"] for row in rows] == [1.2, 0.0, 0.2, 1.2, 1.2, "failed"]
    assert rows[1]["reward/math"] == "undefined: no answer segment"
    assert str(rows[5]["reward/writing"]).startswith("failed: judge unavailable")
    shown = capsys.readouterr().out
    for text in ("sum", "two [bold]and[/bold] [[A]]", "undefined: no answer segment", "1.2", "line 3"):
        assert text in shown


@pytest.mark.usefixtures("tracking_uri")
def test_an_example_of_the_source_is_found_by_its_uid(tmp_path: Path) -> None:
    from omnithink_pl.embedded import EmbeddedMath

    example = EmbeddedMath().examples("math", "test")[0]
    right = {"task": "math", "uid": example.uid, "completion": answered(str(example.reference))}
    (found,) = score(tmp_path, json.dumps(right))
    assert (found["reward/math"], found["uid"]) == (1.0, example.uid)
    assert example.question in str(found["prompt"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: not JSON"),
        ("[]", r"line 2: a row is an object with the text of a 'completion'"),
        (json.dumps(row("poetry", "x")), r"line 2: task 'poetry' is unknown; choose from \['code', 'math'"),
        (json.dumps({"task": "qa", "uid": "none", "completion": ""}), r"line 2: data\.tasks\.qa has no example 'none'"),
        (json.dumps({"task": "math", "reference": "2", "completion": ""}), r"line 2: 'question' is missing"),
        (json.dumps(row("math", "x", 2)), r"line 2: 'reference' is text, or an object with options"),
        (json.dumps(row("code", "x", {"inputs": []})), r"line 2: 'reference' lacks 'outputs'"),
        (
            json.dumps(row("qa", "x", {"options": "AB", "answers": []})),
            r"line 2: 'reference': 'AB' is no list of texts",
        ),
        (json.dumps({"task": ["qa"], "completion": ""}), r"line 2: task \['qa'\] is unknown"),
    ],
)
@pytest.mark.usefixtures("tracking_uri")
def test_a_row_that_cannot_be_scored_is_named_with_the_cure(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        score(tmp_path, json.dumps(ROWS[0]), line)


@pytest.mark.usefixtures("tracking_uri")
def test_a_text_may_hold_any_separator_of_lines_but_the_files_own(tmp_path: Path) -> None:
    text = answered("2") + "\u2028\x85\x0c"
    (found,) = score(tmp_path, json.dumps(row("math", text, "2"), ensure_ascii=False))
    assert found["completion"] == text


@pytest.mark.parametrize("content", [None, "\n"])
def test_a_file_without_rows_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=r"completions: .*completions\.jsonl"):
        main(["score", BASE, f"--completions={path}", "--trainer.logger=false"])
