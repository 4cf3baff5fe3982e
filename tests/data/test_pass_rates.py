"""Which prompts are trained, by how often a policy solves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from main import CONFIGS, main
from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.pass_rates import PassRates, pass_rates
from omnithink_pl.embedded import EmbeddedMath
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.tasks import Math
from omnithink_pl.types import Completion, Example, Group, Score
from tests.scores import FAILED, UNDEFINED, score

EXAMPLES = {"math": [Example("math", f"row-{i}", "?", "!") for i in range(5)], "qa": [Example("qa", "row-0", "?", "!")]}


def group(uid: str, *scores: Score) -> ScoredGroup:
    drawn = tuple(Completion((1,), (-0.1,), "", "stop") for _ in scores)
    return ScoredGroup(Group(Example("math", uid, "?", "!"), (3,), drawn), scores, (None,) * len(scores))


def store(folder: Path, content: Any) -> PassRates:
    (folder / "pass_rates.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return PassRates(str(folder))


def test_the_rate_is_the_share_of_right_ones_among_those_that_we_could_score() -> None:
    groups = [
        group("a", score(1.0), score(0.0, tags=1.0), score(UNDEFINED), score(FAILED)),
        group("b", score(0.5), score(1.0)),
        group("c", score(FAILED)),
    ]
    assert pass_rates(groups) == {"math": {"a": pytest.approx(1 / 3), "b": 0.75}}


def test_prompts_within_both_bounds_are_trained_in_their_order(tmp_path: Path) -> None:
    rates = store(tmp_path, {"math": {"row-4": 0.9, "row-2": 0.0, "row-1": 0.1, "row-3": 1.0}})
    chosen = rates.select(EXAMPLES)
    assert [row.uid for row in chosen["math"]] == ["row-1", "row-4"], "row-0 was not sampled"
    assert chosen["qa"] == EXAMPLES["qa"], "a task of which nothing is known keeps all"


def test_where_no_sampled_prompt_would_teach_the_others_are_trained_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A night's run must not end where a small policy solves none of a hard task's first prompts."""
    rates = store(tmp_path, {"math": {"row-1": 0.0, "row-2": 1.0}, "qa": {"row-0": 0.5}})
    chosen = rates.select(EXAMPLES)
    assert [row.uid for row in chosen["math"]] == ["row-0", "row-3", "row-4"]
    assert [row.uid for row in chosen["qa"]] == ["row-0"]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "math: of 2 prompts none has a pass rate of 0.1 to 0.9 (mean 0.50), so that the 3 others" in warning
    assert "data.sampled_prompts" in warning


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"math": dict(zip([f"row-{i}" for i in range(5)], [0.0, 0.0, 0.0, 1.0, 1.0], strict=True))},
            r"math: of 5 prompts none has a pass rate of 0\.1 to 0\.9 \(mean 0\.40\), and there are no others",
        ),
        ({"math": {"other": 0.5}}, r"has other prompts of math than data\.tasks\.math"),
        ("{", "is not JSON"),
        ([1], "does not map tasks to rows to rates"),
        ({"math": {"row-1": "half"}}, "does not map tasks to rows to rates"),
        ({"math": 0.5}, "does not map tasks to rows to rates"),
    ],
)
def test_what_cannot_be_used_is_named(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        store(tmp_path, content).select(EXAMPLES)


def test_a_folder_that_predict_has_not_finished_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no pass_rates\.json; `main\.py predict --demonstrations\.output="):
        PassRates(str(tmp_path)).select(EXAMPLES)


@pytest.mark.parametrize("bounds", [(0.6, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_bounds_that_no_rate_can_meet_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(BadInput, match="use 0 <= least <= most <= 1"):
        PassRates("rates", *bounds)


def test_demonstrations_bring_their_own_prompts() -> None:
    with pytest.raises(BadInput, match="leave one of them out"):
        MultiTaskData({}, demonstrations="folder", pass_rates=PassRates("folder"))


def test_fit_trains_the_prompts_that_predict_found_neither_hopeless_nor_certain(tmp_path: Path) -> None:
    """The policy's own rates, from the command line to the examples; those of predict must not be chosen by them."""
    main(
        [
            *(
                "predict",
                f"--config={CONFIGS / 'sft_data.yaml'}",
                "--trainer.logger=false",
                f"--demonstrations.output={tmp_path}",
            ),
            "--curriculum.stages=[{tasks: {math: 1}, steps: 1}]",
            *("--data.sampled_prompts=8", "--model.sampling.group_size=4", "--data.batch_size=4"),
        ]
    )
    rates = json.loads((tmp_path / "pass_rates.json").read_text())["math"]
    counts = json.loads((tmp_path / "counts.json").read_text())["math"]
    assert len(rates) == 8
    assert sum(4 * rate for rate in rates.values()) == counts["correct"]
    assert sum(rate > 0 for rate in rates.values()) == counts["solved"]
    data = MultiTaskData({"math": Math(EmbeddedMath())}, pass_rates=PassRates(str(tmp_path), 0.2, 0.8))
    data.setup("fit")
    assert {row.uid for row in data.train} == {uid for uid, rate in rates.items() if 0.2 <= rate <= 0.8}
    data.train = []
    data.setup("predict")
    assert len(data.train) > 8
