"""Stages that end early, are chosen late, or replay others: the plan follows, and so does a resumed run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest

from callbacks.checkpoints import Checkpoints
from callbacks.curriculum import Curriculum
from callbacks.learning_rate import LearningRate
from callbacks.lookups import StageCallback
from callbacks.model_selection import ModelSelection
from callbacks.stage_evaluation import StageEvaluation
from omnithink_pl.curriculum.schedulers import LeastForgettable
from omnithink_pl.curriculum.score_matrix import TaskScore
from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.data.samplers import UniformSampler
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example
from tests.callbacks.fit import CountedData, CountingModule, trainer

TASKS = ("code", "math", "qa")
STAGES = [Stage({task: 1.0}, steps) for task, steps in zip(TASKS, (6, 5, 4), strict=True)]


class Scripted:
    """Scores by task and number of finished steps; its first held-out prompt is the one it uses."""

    def __init__(self, scores: dict[str, dict[int, float]] | None = None) -> None:
        self.scores = scores or {}
        self.away: set[str] = set()
        self.asked: list[tuple[str, int]] = []

    def choose(self, examples: list[Example]) -> list[Example]:
        return examples[:1]

    def measure(self, policy: Any, engine: Any, tasks: dict[str, Any], *rest: Any) -> dict[str, Any]:
        return {task: self.result(task, policy.steps_done()) for task in tasks}

    def conclude(self, measured: dict[str, Any], max_failed: float) -> dict[str, Any]:
        return measured

    def result(self, task: str, done: int) -> SimpleNamespace:
        self.asked.append((task, done))
        value = self.scores.get(task, {}).get(done, 0.5)
        score = TaskScore(value, value, value, value, value, value, 10, 2)
        return SimpleNamespace(
            score=score, samples=lambda count: [], unscored="" if task not in self.away else "judge away"
        )


class Watcher(L.Callback):
    """Notes the task, the learning rate and the weight that each step begins with."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.rates: list[float] = []
        self.weights: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: list[Example], batch_idx: int) -> None:
        self.tasks.append(batch[0].task)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.weights.append(pl_module.weight.item())


def example(task: str, uid: str) -> Example:
    return Example(task, uid, "?", "!", ({"role": "user", "content": "?"},))


class ThreeTasks(CountedData):
    """As the counted data, with a third task and two held-out prompts of each."""

    def __init__(self) -> None:
        super().__init__()
        self.trained_tasks = list(TASKS)
        self.tasks = {task: SimpleNamespace(name=task, close=lambda: None, source=None) for task in TASKS}
        self.train = [example(task, "row-1") for task in TASKS]
        self.held_out = {task: [example(task, "evaluated"), example(task, "left")] for task in TASKS}


class Run:
    """One fit with all parts; keeps what is of interest."""

    def __init__(self, directory: Path, resume: Path | None = None, fail_at: int | None = None, **parts: Any) -> None:
        stages = parts.pop("stages", STAGES)
        self.evaluator = parts.pop("evaluator", Scripted())
        self.validation = ModelSelection(keep_best=False, **parts.pop("validation", {}))
        self.curriculum = Curriculum(stages, **parts.pop("curriculum", {}))
        self.evaluation, self.watcher, self.data = StageEvaluation(self.evaluator), Watcher(), ThreeTasks()
        checkpoints = Checkpoints("test", every_n_steps=2, save_policy=False)
        rate = LearningRate(**parts.pop("rate", {}))
        callbacks = [self.validation, self.evaluation, rate, self.watcher, checkpoints, self.curriculum]
        if resume is not None:
            checkpoints.resume(resume)
        self.module = CountingModule(fail_at, KeyboardInterrupt())
        fit = trainer(directory, callbacks)
        fit.fit(self.module, datamodule=self.data, ckpt_path=resume, weights_only=True)

    @property
    def lengths(self) -> list[int]:
        return [stage.steps for stage in self.curriculum.plan]


# The scores that validation sees: code stops at its fourth step, math never does, QA at once.
SCORES = {
    "code": {2: 0.2, 4: 0.2, 6: 0.9},
    "math": dict.fromkeys(range(20), 0.5) | {6: 0.1, 8: 0.2, 9: 0.3},
    "qa": {},
}
EARLY = {"every_n_steps": 2, "patience": 1, "evaluator": Scripted(SCORES)}


def test_a_stage_ends_on_a_plateau_and_the_next_one_begins(tmp_path: Path) -> None:
    run = Run(tmp_path, validation=EARLY)
    assert run.lengths == [4, 5, 4]
    assert run.watcher.tasks == ["code"] * 4 + ["math"] * 5 + ["qa"] * 4
    assert run.module.steps_done == 13
    assert run.evaluation.matrix.labels == ("base", "1 code", "2 math", "3 qa")


def test_the_next_stage_goes_on_from_the_best_policy_if_asked_to(tmp_path: Path) -> None:
    """Code is best after its fourth step of six, math after its fourth of five, QA after its last."""
    scores = Scripted({"code": {2: 0.2, 4: 0.9, 6: 0.8}, "math": {8: 0.1, 10: 0.3, 11: 0.2}, "qa": {13: 0.1, 15: 0.2}})
    best = Run(tmp_path, validation={"every_n_steps": 2, "evaluator": scores, "continue_from": "best"})
    assert best.watcher.weights == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 8, 9, 10, 11]
    assert best.module.weight.item() == 12


def test_a_validation_that_could_not_be_scored_ends_no_stage(tmp_path: Path) -> None:
    silent = Scripted(SCORES)
    silent.away = set(TASKS)
    assert Run(tmp_path, validation=EARLY | {"evaluator": silent}).lengths == [6, 5, 4]


def test_the_order_follows_what_was_measured(tmp_path: Path) -> None:
    harmed = Scripted({"math": {6: 0.1}})  # by the stage of code
    run = Run(tmp_path, evaluator=harmed, curriculum={"scheduler": LeastForgettable()})
    assert run.watcher.tasks == ["code"] * 6 + ["qa"] * 4 + ["math"] * 5
    assert run.evaluation.matrix.labels == ("base", "1 code", "2 qa", "3 math")
    assert len(harmed.asked) == 3 * 4, "no evaluation is made twice"


def test_the_first_stage_is_chosen_too(tmp_path: Path) -> None:
    prior = {"code": -0.1, "math": 0.02}  # QA is not named: 0
    run = Run(tmp_path, evaluator=Scripted(), curriculum={"scheduler": LeastForgettable(prior)})
    assert run.evaluation.matrix.labels == ("base", "1 math", "2 code", "3 qa"), "what is measured counts more"
    assert run.watcher.tasks == ["math"] * 5 + ["code"] * 6 + ["qa"] * 4


def test_replay_follows_the_order_that_was_chosen(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        evaluator=Scripted({"math": {6: 0.1}}),
        curriculum={"scheduler": LeastForgettable(), "replay": 0.5},
    )
    assert [list(stage.replay) for stage in run.curriculum.plan] == [[], ["code"], ["code", "qa"]]
    assert {"code", "qa"} <= set(run.watcher.tasks[6:10])


def test_the_rate_of_each_step_is_the_schedules(tmp_path: Path) -> None:
    run = Run(tmp_path, rate={"warmup_steps": 2, "decay": "linear"})
    assert run.watcher.rates[:7] == pytest.approx([0.05, 0.1, 0.1, 0.075, 0.05, 0.025, 0.05])


ALL = {
    "validation": {**EARLY, "min_delta": 0.05, "continue_from": "best"},
    "curriculum": {"scheduler": LeastForgettable(), "replay": 0.25},
    "rate": {"warmup_steps": 1, "decay": "cosine"},
}


@pytest.mark.parametrize("fail_at", [1, 3, 4, 5, 8, 9, 12])
def test_a_run_interrupted_anywhere_goes_on_the_same(fail_at: int, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = Run(tmp_path / "whole", **ALL)
    with pytest.raises(SystemExit):
        Run(tmp_path / "parts", fail_at=fail_at, **ALL)
    (checkpoint,) = (tmp_path / "parts" / "test").glob("*/last.ckpt")
    parts = Run(tmp_path / "parts", checkpoint, **ALL)
    assert parts.lengths == whole.lengths
    assert parts.watcher.tasks == whole.watcher.tasks[fail_at:]
    assert parts.watcher.rates == whole.watcher.rates[fail_at:]
    assert parts.watcher.weights == whole.watcher.weights[fail_at:]
    assert whole.watcher.weights != list(range(len(whole.watcher.weights))), "no stage went back"
    assert parts.evaluation.matrix == whole.evaluation.matrix


class Events(StageCallback):
    """Notes what it is told, and how many rows the score matrix has then."""

    def __init__(self, evaluation: StageEvaluation) -> None:
        self.evaluation, self.told = evaluation, []

    def note(self, event: str, run: StageRun, module: Any) -> None:
        self.told.append((event, run.name, module.steps_done, len(self.evaluation.matrix.rows)))

    def on_stage_start(self, trainer: L.Trainer, pl_module: Any, run: StageRun) -> None:
        self.note("start", run, pl_module)

    def on_stage_end(self, trainer: L.Trainer, pl_module: Any, run: StageRun) -> None:
        self.note("end", run, pl_module)


def test_a_stage_is_evaluated_at_its_end_before_the_next_one_starts(tmp_path: Path) -> None:
    evaluation = StageEvaluation(Scripted())
    events, module = Events(evaluation), CountingModule()
    trainer(tmp_path, [events, evaluation, Curriculum(STAGES)]).fit(module, datamodule=ThreeTasks())
    assert events.told == [
        *[("start", "base", 0, 0), ("end", "base", 0, 1), ("start", "code", 0, 1), ("end", "code", 6, 2)],
        *[("start", "math", 6, 2), ("end", "math", 11, 3), ("start", "qa", 11, 3), ("end", "qa", 15, 4)],
    ]


class Backwards(UniformSampler):
    """Counts the batches that it was asked for, as state."""

    def __init__(self) -> None:
        self.asked = 0

    def mixture(self, weights: Any, sizes: Any) -> dict[str, float]:
        self.asked += 1
        return {next(iter(weights)): 0.0, **dict.fromkeys(list(weights)[1:], 1.0)}

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_state_dict(self, state: Any) -> None:
        self.asked = state["asked"]


@pytest.mark.parametrize("fail_at", [None, 4, 7, 8])
def test_a_stage_may_have_a_sampler_of_its_own(fail_at: int | None, tmp_path: Path) -> None:
    both = {"code": 1.0, "math": 1.0}

    def stages(own: Backwards) -> list[Stage]:
        return [Stage(both, 4), Stage(both, 5, sampler=own), Stage({"code": 1.0}, 2)]

    own = Backwards()
    if fail_at is None:
        tasks = Run(tmp_path, stages=stages(own)).watcher.tasks[4:]
    else:
        with pytest.raises(SystemExit):
            Run(tmp_path, fail_at=fail_at, stages=stages(Backwards()))
        (checkpoint,) = (tmp_path / "test").glob("*/last.ckpt")
        resumed = Run(tmp_path, checkpoint, stages=stages(own))
        tasks = ["math"] * (fail_at - 4) + resumed.watcher.tasks
    assert tasks == ["math"] * 5 + ["code"] * 2
    assert own.asked == 5, "its state outlives an interruption"


def test_an_evaluation_without_prompts_left_for_validation_is_named(tmp_path: Path) -> None:
    class Greedy(Scripted):
        def choose(self, examples: list[Example]) -> list[Example]:
            return examples

    with pytest.raises(BadInput, match=r"uses all 2 held-out prompts of code; lower evaluation\.evaluator\.prompts"):
        Run(tmp_path, evaluator=Greedy(), validation=EARLY)


def test_a_stage_that_may_end_by_surprise_leaves_no_rollouts_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingModule, "samples_ahead", True)
    with pytest.raises(BadInput, match=r"async_rewards and segment_tokens begin .* before validation\.patience"):
        Run(tmp_path, validation=EARLY)


def test_settings_that_mean_nothing_are_named() -> None:
    with pytest.raises(BadInput, match=r"validation\.patience needs validations; set validation\.every_n_steps"):
        ModelSelection(patience=2)
    with pytest.raises(BadInput, match=r"validation\.continue_from: best needs validations"):
        ModelSelection(continue_from="best")
    with pytest.raises(BadInput, match=r"curriculum\.replay is 1\.0; it is a share of the batch"):
        Curriculum(STAGES, replay=1.0)
