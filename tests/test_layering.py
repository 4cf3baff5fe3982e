"""Who may import whom, and how large a file or function may grow: read from the source with ``ast``."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("omnithink_pl", "callbacks", "main")
LIBRARY = sorted((ROOT / "omnithink_pl").rglob("*.py"))
CALLBACKS = sorted((ROOT / "callbacks").rglob("*.py"))
SHIPPED = [*LIBRARY, *CALLBACKS, ROOT / "main.py"]
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Every module named by an import anywhere in a file, under TYPE_CHECKING and in functions too."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno}: write the whole name, not a relative import"
            modules.add(node.module or "")
    return modules


def importers(paths: list[Path], package: str) -> set[str]:
    """The files among ``paths`` that import ``package`` or something in it."""
    return {named(path) for path in paths if package in {name.split(".")[0] for name in imported(path)}}


def definitions(path: Path) -> Iterator[FUNCTIONS | ast.ClassDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, FUNCTIONS | ast.ClassDef):
            yield node


def test_there_is_something_to_read() -> None:
    assert len(LIBRARY) > 20
    assert len(CALLBACKS) > 1


@pytest.mark.parametrize("above", ["callbacks", "main"])
def test_law_9_library_imports_nothing_above_it(above: str) -> None:
    assert importers(LIBRARY, above) == set()


def test_callbacks_do_not_import_main() -> None:
    assert importers(CALLBACKS, "main") == set()


def test_only_main_imports_both_packages() -> None:
    both = importers(SHIPPED, "callbacks") & importers(SHIPPED, "omnithink_pl")
    outside = {name for name in both if not name.startswith("callbacks/")}
    assert outside == {"main.py"}


def test_law_9_only_tracking_and_report_import_mlflow() -> None:
    allowed = ("omnithink_pl/tracking/", "omnithink_pl/report/")
    assert {name for name in importers(SHIPPED, "mlflow") if not name.startswith(allowed)} == set()


def test_nouns_import_nothing_of_ours() -> None:
    roots = {name.split(".")[0] for name in imported(ROOT / "omnithink_pl" / "types.py")}
    assert roots.isdisjoint(OURS)


def test_law_9_importing_the_package_loads_neither_vllm_nor_torch_distributed() -> None:
    program = (
        "import sys, omnithink_pl\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'vllm' or name == 'torch.distributed'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_of_leftovers() -> None:
    leftovers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [named(path) for path in SHIPPED if path.name in leftovers] == []


def test_files_stay_short() -> None:
    lengths = {named(path): len(path.read_text().splitlines()) for path in SHIPPED}
    assert {name: length for name, length in lengths.items() if length > 600} == {}


def test_functions_stay_short() -> None:
    long = {
        f"{named(path)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in SHIPPED
        for node in definitions(path)
        if isinstance(node, FUNCTIONS) and node.end_lineno - node.lineno + 1 > 50
    }
    assert long == {}


def test_modules_and_public_classes_have_docstrings() -> None:
    # Ruff holds methods and functions to the same; this stands where ruff is not installed.
    bare = [named(path) for path in SHIPPED if not ast.get_docstring(ast.parse(path.read_text()))]
    bare += [
        f"{named(path)}:{node.lineno} {node.name}"
        for path in SHIPPED
        for node in ast.parse(path.read_text()).body
        if isinstance(node, FUNCTIONS | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert bare == []
