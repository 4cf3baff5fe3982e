"""A wrong argument is answered by its whole key and the cause, not by the way there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from jsonargparse import ArgumentError

from main import main
from omnithink_pl.cli import OmniThinkParser, readable


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
        ("--wall.width=3", "wall: Option 'width' is not accepted"),
        ("--wall.paint={kind: chalk}", "wall.paint.kind: Expected a Literal['oil', 'water']. Got value: chalk"),
        ("--wall.paint={colour: red}", "wall.paint: Option 'colour' is not accepted"),
        (
            "--wall.paint.layers=some",
            "wall.paint.layers: Expected a list\n  or wall.paint.layers: Expected a Literal['all']; the value is some",
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
