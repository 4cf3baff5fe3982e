from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from callbacks.checkpoints import Checkpoints
from callbacks.progress import CurriculumProgress
from callbacks.tracking import Tracking
from omnithink_pl.errors import BadInput
from tests.callbacks.fit import CountedData, CountingModule, RisingEvaluator, curriculum, evaluation, trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*transfer_batch_to_device.*")


def shown(
    directory: Path, module: CountingModule, *, terminal: bool = False, every_n_steps: int = 2, samples: int = 0
) -> str:
    """What a fit prints, without colours."""
    progress = CurriculumProgress(every_n_steps, samples=samples)
    output = io.StringIO()
    progress.console = Console(file=output, width=80, force_terminal=terminal, no_color=True)
    callbacks = [evaluation(), Tracking("curriculum"), progress, Checkpoints("curriculum", save_policy=False)]
    callbacks.append(curriculum())
    try:
        trainer(directory, callbacks).fit(module, CountedData())
    except RuntimeError as error:
        output.write(f"raised {error}")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())


def test_each_evaluation_shows_samples_of_every_task_as_they_are(tmp_path: Path) -> None:
    lines = shown(tmp_path, CountingModule(), samples=1).splitlines()
    sample = ["    It is [b]this[/b]."]
    first = lines.index("  code 0.20  What is it?")
    assert lines[first : first + 4] == ["  code 0.20  What is it?", *sample, "  math 0.20  What is it?", *sample]


def test_a_log_file_gets_a_line_with_the_time_every_few_steps_and_one_per_evaluation(tmp_path: Path) -> None:
    printed = shown(tmp_path, CountingModule()).splitlines()
    timed = [line for line in printed if re.match(r"\d\d:\d\d:\d\d  ", line)]
    lines = [line[10:] for line in timed]
    assert lines[0] == "2 prompts to train on, 0 held out; loading the policy embedded"
    assert lines[2:4] == ["curriculum: 5 steps, code > math", "base: code 20  math 20  mean 20"]
    assert lines[4].startswith("step 2/5  stage 1/2 code  reward code 0.20 (avg 0.15)  KL 0.0100  left ")
    assert lines[5] == "after code: code 32 ▲12  math 32 ▲12  mean 32 ▲12"
    assert lines[6].startswith("step 4/5  stage 2/2 math  reward math 0.40 (avg 0.40)  KL 0.0100  left ")
    assert lines[7] == "after math: code 40 ▲20  math 40 ▲20  mean 40 ▲20"
    (checkpoint,) = tmp_path.glob("curriculum/*/last.ckpt")
    assert printed.index(f"folder      {checkpoint.parent}") < printed.index(timed[3]), "before the first evaluation"


def test_slow_steps_have_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callbacks.progress._SILENCE", 0.0)
    lines = [line[10:18] for line in shown(tmp_path, CountingModule(), every_n_steps=100).splitlines()]
    assert [line for line in lines if line.startswith("step ")] == [f"step {n}/5" for n in range(1, 6)]


def test_an_evaluation_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Any, policy: Any, engine: Any, tasks: Any, held_out: Any, seed: int, progress: Any) -> Any:
        for done in range(1, 5):
            progress(done, 4)
        return {task: self.result(policy) for task in tasks}

    monkeypatch.setattr(RisingEvaluator, "measure", measure)
    lines = [line[10:] for line in shown(tmp_path, CountingModule()).splitlines() if "evaluating" in line]
    first, last = (f"evaluating the base model: {done} of 4 prompts sampled" for done in (1, 4))
    assert lines[:2] == [first, f"{last}, scoring the completions"], "those between come too soon after the first"
    assert lines[2].startswith("evaluating after code: 1 of 4")


def test_the_end_shows_the_score_matrix_and_where_things_are(tmp_path: Path) -> None:
    lines = [line.rstrip() for line in shown(tmp_path, CountingModule()).splitlines()]
    table = lines.index("Score in percent, sampled at temperature 1")
    assert [line.split() for line in lines[table + 1 : table + 6]] == [
        ["code", "math", "mean"],
        ["base", "20", "20", "20"],
        ["after", "code", "32", "▲", "32", "▲", "32", "▲12"],
        ["after", "math", "40", "▲", "40", "▲", "40", "▲20"],
        ["forgotten", "-20", "-20", "-20"],
    ]
    (checkpoint,) = tmp_path.glob("curriculum/*/last.ckpt")
    assert f"checkpoint  {checkpoint}" in lines


def test_a_terminal_shows_one_display_that_fits_80_columns_and_goes_away(tmp_path: Path) -> None:
    text = shown(tmp_path, CountingModule(), terminal=True)
    assert "curriculum  stage 2 of 2: math  training" in text
    assert "step 2/5  stage" not in text
    assert max(len(line) for line in re.split(r"[\r\n]", text) if not line.startswith(("checkpoint", "folder"))) <= 80
    assert "after math" in text


def test_an_error_closes_the_display_and_says_where_the_fit_stopped(tmp_path: Path) -> None:
    text = shown(tmp_path, CountingModule(fail_at=3, error=RuntimeError("broken")), terminal=True)
    assert text.endswith("Stopped at step 3 of 5: RuntimeError\nraised broken")


def test_no_terminal_means_no_control_codes(tmp_path: Path) -> None:
    progress = CurriculumProgress()
    output = io.StringIO()
    progress.console = Console(file=output, width=80)
    trainer(tmp_path, [evaluation(), progress, curriculum()]).fit(CountingModule(), CountedData())
    assert "\x1b" not in output.getvalue()


def test_a_disabled_display_prints_nothing(tmp_path: Path) -> None:
    progress = CurriculumProgress(every_n_steps=1)
    output = io.StringIO()
    progress.console = Console(file=output)
    progress.disable()
    trainer(tmp_path, [evaluation(), progress, curriculum()]).fit(CountingModule(), CountedData())
    assert output.getvalue() == ""


def test_a_line_every_zero_steps_is_refused() -> None:
    with pytest.raises(BadInput, match=r"progress\.every_n_steps is 0"):
        CurriculumProgress(every_n_steps=0)
