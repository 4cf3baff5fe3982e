"""What the command line says of wrong arguments, keys of earlier versions and keys that follow from others."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import pytest
from jsonargparse import ArgumentError

from main import CONFIGS, main
from omnithink_pl.cli import LINKS, OmniThinkParser
from omnithink_pl.errors import BadInput
from omnithink_pl.given import read_settings
from omnithink_pl.messages import MT_GRPO_ONLY, readable
from omnithink_pl.modules import RENAMED_KEYS, MultiTaskGRPO, RejectionSampling, SupervisedFineTuning
from omnithink_pl.refusals import TRAINER_OPTIONS, check_settings


def check_keys(args: list[str]) -> None:
    """Check as the command line does."""
    follows = {target.replace(".init_args", ""): source for target, (source, _) in LINKS.items()}
    check_settings(list(read_settings(args)), follows, ["code", "math", "qa", "writing"])


@dataclass
class Paint:
    """Optional, of something optional."""

    kind: Literal["oil", "water"] = "oil"
    layers: list[int] | Literal["all"] = "all"


class Wall:
    """What is built."""

    def __init__(self, paint: Paint | None = None, height: int = 2) -> None:
        self.paint = paint
        self.height = height


def complaint(*arguments: str) -> str:
    parser = OmniThinkParser(exit_on_error=False)
    parser.add_subclass_arguments(Wall, "wall", default={"class_path": f"{__name__}.Wall"})
    with pytest.raises(ArgumentError) as raised:
        parser.parse_args(list(arguments))
    return readable(str(raised.value))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--wall.height=x", "wall.height: Expected a int. Got value: x"),
        ("--wall.width=3", "wall: Option 'width' is not accepted; its class has paint, height"),
        ("--wall.paint={kind: chalk}", "wall.paint.kind: Expected a Literal['oil', 'water']. Got value: chalk"),
        ("--wall.paint={colour: red}", "wall.paint: Option 'colour' is not accepted; its class has kind, layers"),
        (
            "--wall.paint.layers=some",
            "wall.paint.layers: Expected a list or Literal['all']; the value is some",
        ),
        ("--wall=nowhere.Wall", "wall: No module named 'nowhere'"),
    ],
)
def test_a_message_has_the_whole_key_and_the_cause_and_nothing_of_the_way(argument: str, message: str) -> None:
    assert complaint(argument) == message


def test_what_is_not_nested_is_left_as_it_is() -> None:
    assert readable("File does not exist: 'here'") == "File does not exist: 'here'"
    assert readable("") == ""


def test_the_command_line_says_it_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--model.adapter={rank: 4, weights: nf5}"])
    assert capsys.readouterr().err.splitlines() == [
        "error: model.adapter.weights: Expected a Literal['float32', 'bfloat16', 'nf4']. Got value: nf5",
        "main.py fit --help lists what can be set",
    ]


def test_a_config_for_mt_grpo_behind_one_that_chooses_another_class_is_told_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *(f"--config=configs/{name}.yaml" for name in ("sft", "rollout/vllm"))])
    assert "stands before the one that chooses this class" in capsys.readouterr().err


def test_those_are_the_settings_that_mt_grpo_alone_has() -> None:
    own, others = inspect.signature(MultiTaskGRPO).parameters, (SupervisedFineTuning, RejectionSampling)
    assert {*MT_GRPO_ONLY} == {*own}.difference(*(inspect.signature(other).parameters for other in others))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.group_size=4"], "--model.group_size: model.group_size is now model.sampling.group_size"),
        (["--model.init_args.beta.math", "0"], "--model.init_args.beta.math: model.beta is now model.kl.beta"),
        (["--data.seed=3"], "--data.seed: data.seed follows from seed_everything; set seed_everything instead"),
        (["--config=FILE"], "FILE: model.beta is now model.kl.beta; model.top_p is now model.sampling.top_p"),
        (["--config", "FILE", "--model=SupervisedFineTuning"], None),
        (["--model.class_path=my_package.Mine", "--model.group_size=4"], None),
        (["--data.tasks.qa.init_args.source=omnithink_pl.sources.SuperGPQA"], None),
        (["--config=no/such/file.yaml", "--curriculum.stages=[{"], None),  # which the parser complains about
    ],
)
def test_keys_of_earlier_versions_and_those_that_follow_from_others_are_refused(
    arguments: list[str], message: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {beta: {math: 0.1}, init_args: {top_p: 0.9}}" if message else "model: {max_tokens: 20}")
    given = [argument.replace("FILE", str(file)) for argument in arguments]
    if message is None:
        check_keys(given)
        return
    with pytest.raises(BadInput) as refused:
        check_keys(given)
    assert str(refused.value) == message.replace("FILE", str(file))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("omnithink_pl.benchmarks.AIME24", "omnithink_pl.evaluation.suites.AIME24"),
        ("omnithink_pl.scheduling.LeastForgettable", "omnithink_pl.curriculum.schedulers.LeastForgettable"),
    ],
)
def test_class_paths_of_earlier_versions_are_refused_with_the_new_ones(old: str, new: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {{benchmarks: {{one: {{task: {{init_args: {{source: {{class_path: {old}}}}}}}}}}}}}")
    with pytest.raises(BadInput, match=rf"mine\.yaml: {re.escape(old)} is now {re.escape(new)}$"):
        check_keys([f"--config={file}"])
    module, _, name = new.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


def test_every_linked_key_is_refused_with_its_source() -> None:
    for target, (source, _) in LINKS.items():
        with pytest.raises(BadInput, match=f"follows from {source}; set {source} instead"):
            check_keys([f"--{target}=1"])


def test_the_new_names_of_keys_are_arguments_of_a_module() -> None:
    modules = (MultiTaskGRPO, SupervisedFineTuning, RejectionSampling)
    accepted = {name for module in modules for name in inspect.signature(module).parameters}
    assert {new.split(".")[1] for new in RENAMED_KEYS.values()} <= accepted


def test_the_options_of_the_trainer_that_are_refused_exist_and_their_defaults_here_are_harmless() -> None:
    options = inspect.signature(L.Trainer).parameters
    assert TRAINER_OPTIONS.keys() <= options.keys()
    check_keys([f"--config={CONFIGS / 'base.yaml'}"])
    for name, (harmless, _) in TRAINER_OPTIONS.items():
        for value in harmless:
            check_keys([f"--trainer.{name}={'null' if value is None else value}"])
