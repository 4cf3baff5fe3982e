"""Help, configs and unknown verbs are answered before anything heavy is imported."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from main import CONFIGS, main
from omnithink_pl.cli import VERBS as TRAINER_VERBS
from omnithink_pl.errors import BadInput
from omnithink_pl.help import help_of
from omnithink_pl.verb_table import VERBS

HEAVY = {"torch", "lightning", "transformers", "mlflow", "jsonargparse"}


def modules_loaded_by(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and the libraries that it imports."""
    program = f"import sys; from main import main; main({list(arguments)}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CONFIGS.parent, capture_output=True, text=True, check=True
    )
    printed, _, loaded = done.stdout.rstrip("\n").rpartition("\n")
    return printed, {name.partition(".")[0] for name in loaded.split()}


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["study", "-h"], ["configs", "ls"]])
def test_what_needs_no_library_imports_none(arguments: list[str]) -> None:
    printed, loaded = modules_loaded_by(*arguments)
    assert printed
    assert loaded & HEAVY == set()


def test_the_table_of_verbs_is_true() -> None:
    assert {verb for verb, entry in VERBS.items() if not entry.tool} == {*TRAINER_VERBS, "configs"}
    for entry in VERBS.values():
        if entry.source:
            module, _, name = entry.source.rpartition(".")
            assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_every_argument_of_its_own_and_every_default(verb: str) -> None:
    text = help_of(verb, CONFIGS / "base.yaml")
    needed = {"validate": ["--completions", "--chunk"], "study": ["--dry_run", "--seeds"], "merge": ["--density"]}
    assert all(f"  {name} " in text for name in needed.get(verb, []))
    if verb in TRAINER_VERBS:
        keys = text[text.index("Keys and defaults") :].partition("\n\n")[2]
        assert yaml.safe_load(keys) == yaml.safe_load((CONFIGS / "base.yaml").read_text())


def test_configs_are_listed_copied_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs", "ls", "scale"])
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {
        path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.glob("scale/*.yaml")
    }
    mine = tmp_path / "new" / "mine.yaml"
    main(["configs", "cp", "joint", str(mine)])
    assert mine.read_text() == (CONFIGS / "joint.yaml").read_text()
    mine.write_text("name: mine\nmodel: {sampling: {group_size: 4}}\n")
    with pytest.raises(BadInput, match=r"mine\.yaml is there already; name another file"):
        main(["configs", "cp", "joint", str(mine)])
    capsys.readouterr()
    main(["configs", "diff", "joint", str(mine)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["- name: joint", "+ name: mine"]
    assert lines[-2:] == ["- model.sampling.group_size: (not set)", "+ model.sampling.group_size: 4"]


@pytest.mark.parametrize("arguments", [["ls", "a", "b", "c"], ["cp", "joint"], ["rm", "joint"], []])
def test_a_wrong_use_of_configs_says_the_right_one(arguments: list[str]) -> None:
    with pytest.raises(BadInput, match=r"usage: main\.py configs ls \[PART\] \| cp CONFIG FILE \| diff CONFIG CONFIG"):
        main(["configs", *arguments])
