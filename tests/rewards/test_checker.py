"""Checkers: several right outputs, none of which the expected one has to be."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from main import CONFIGS, main
from omnithink_pl.errors import BadInput
from omnithink_pl.rewards import CodeReward
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import State, UnitTests
from tests.rewards.groups import SayingSandbox, answered, group, outcome

CHECKS = '''
import time


def summands(given, output, expected):
    """Two positive numbers that add up to the input."""
    a, b = map(int, output.split())
    return a > 0 and b > 0 and a + b == int(given)


def pair(given, output):
    return len(output.split()) == 2


class Within:
    """Numbers up to a tolerance."""

    def __init__(self, tolerance: float = 0.1):
        self.tolerance = tolerance

    def __call__(self, given, output, expected):
        return abs(float(output) - float(expected)) <= self.tolerance


def broken(given, output, expected):
    return undefined_name


def silent(given, output, expected):
    output.split()


def endless(given, output, expected):
    while True:
        time.sleep(1)


def one(output):
    return True
'''
SPLIT = UnitTests(inputs=("5\n", "9\n"), outputs=("1 4", "4 5"))


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with checkers, which only this process' path leads to."""
    (tmp_path / "my_checks.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_checks"
    sys.modules.pop("my_checks", None)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[HardenedSandbox]:
    sandbox = HardenedSandbox(workers=1)
    yield sandbox
    sandbox.close()


def found(
    sandbox: HardenedSandbox, name: str, *programs: str, tests: UnitTests = SPLIT, timeout: float = 20.0
) -> list[object]:
    checker = getattr(__import__("my_checks"), name)
    reward = CodeReward(sandbox, checker() if isinstance(checker, type) else checker, timeout)
    try:
        (row,) = reward.score([group(tests, *map(answered, programs))])
    finally:
        reward.close()
    return [one.value if one.state is State.VALUE else f"{one.state.value}: {one.reason}" for one in row]


def test_every_output_that_the_checker_takes_is_right(checks: str, sandbox: HardenedSandbox) -> None:
    programs = {
        "n = int(input())\nprint(1, n - 1)": 1.0,
        "n = int(input())\nprint(2)\nprint(n - 2)": 1.0,
        "n = int(input())\nprint(n // 2, n // 2)": 0.0,
        "n = int(input())\nprint(1, 4)": 0.0,  # right for the first input, as expected
        "print('many words')": 0.0,  # the checker stumbles over it, not over the expected output
        "print(": 0.0,
        "print(1, int(input()) - 1)\nraise SystemExit(1)": 0.0,
    }
    assert found(sandbox, "summands", *programs) == list(programs.values())


def test_the_expected_output_is_optional_and_functional_tests_need_no_checker(
    checks: str, sandbox: HardenedSandbox
) -> None:
    unknown = UnitTests(inputs=("5\n",), outputs=("",))
    assert found(sandbox, "pair", "print(7, 8)", "print(7)", "print()", tests=unknown) == [1.0, 0.0, 0.0]
    function = UnitTests(functional="a, b = f(5)\nassert a + b == 5", entry_point="f")
    assert found(sandbox, "pair", "def f(n): return 2, n - 2", "def f(n): return n, n", tests=function) == [1.0, 0.0]


def test_an_instance_of_a_class_is_a_checker(checks: str, sandbox: HardenedSandbox) -> None:
    third = UnitTests(inputs=("1\n",), outputs=("0.3333",))
    assert found(sandbox, "Within", "print(0.25)", "print(0.2)", tests=third) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "undefined: unusable reference: the checker raises NameError: name 'undefined_name'"),
        ("silent", "undefined: unusable reference: the checker raises TypeError: it returns None"),
        ("endless", "failed: checker timed out"),
    ],
)
def test_a_checker_that_does_not_work_is_never_a_0(
    name: str, reason: str, checks: str, sandbox: HardenedSandbox
) -> None:
    for tests in (SPLIT, UnitTests(inputs=("5\n",), outputs=("",))):  # with and without an expected output
        (said,) = found(sandbox, name, "print(2, int(input()) - 2)", tests=tests, timeout=1.0)
        assert str(said).startswith(reason)


def test_a_checker_that_cannot_be_asked_is_refused(checks: str) -> None:
    import my_checks  # type: ignore[import-not-found]

    with pytest.raises(BadInput, match=r"code\.checker: one takes \(output\), not input and output"):
        CodeReward(SayingSandbox(), my_checks.one)
    with pytest.raises(BadInput, match="cannot be sent to a worker"):
        CodeReward(SayingSandbox(), lambda given, output: True)
    with pytest.raises(BadInput, match="checker_timeout"):
        CodeReward(SayingSandbox(), my_checks.pair, 0.0)


def test_a_sandbox_that_returns_no_outputs_is_named(checks: str) -> None:
    import my_checks

    with pytest.raises(TypeError, match="a sandbox that returns outputs"):
        outcome(CodeReward(SayingSandbox(), my_checks.pair), SPLIT, answered("passed"))


PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()


def test_the_checker_and_the_reward_of_the_page_run_from_its_configs(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_checks", "my_rewards"):
        (source,) = re.findall(rf'```python\n("""{name}\.py""".*?)```', PAGE, re.DOTALL)
        (tmp_path / f"{name}.py").write_text(source)
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for number, example in enumerate(examples):
        (tmp_path / f"{number}.yaml").write_text(example)
    reference = {"inputs": list(SPLIT.inputs), "outputs": list(SPLIT.outputs)}
    programs = ["n = int(input())\nprint(2, n - 2)", "print(0, input())"]
    rows = [
        {"task": "code", "question": "Split it.", "reference": reference, "completion": answered(program)}
        for program in programs
    ]
    rows.append({"task": "math", "question": "1 + 1?", "reference": "2", "completion": answered("2".ljust(50))})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    configs = [f"--config={CONFIGS / 'curriculum.yaml'}", *(f"--config={path}" for path in tmp_path.glob("*.yaml"))]
    tracked = f"--trainer.logger.init_args.tracking_uri={tracking_uri}"
    main(["score", *configs, f"--completions={tmp_path / 'rows.jsonl'}", tracked])
    from mlflow.artifacts import load_text
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    table = json.loads(load_text(f"{run.info.artifact_uri}/scores.json"))
    found = [dict(zip(table["columns"], cells, strict=True)) for cells in table["data"]]
    assert [row["reward"] for row in found] == [1.0, 0.0, 1.0]
    assert [row["reward/brevity"] for row in found] == [None, None, -0.01]
    assert "checker: my_checks.summands" in load_text(f"{run.info.artifact_uri}/config.yaml")
    for name in ("my_checks", "my_rewards"):
        sys.modules.pop(name)
