"""Who may import whom, and how large a file or function may grow: read from the source with ``ast``."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "omnithink_pl").rglob("*.py"))
CALLBACKS = sorted((ROOT / "callbacks").rglob("*.py"))
SHIPPED = [*LIBRARY, *CALLBACKS, ROOT / "main.py"]
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in SHIPPED}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(node: ast.AST, type_checking: bool = True) -> Iterator[str]:
    """Every module that is imported below a node, in functions too; on request not for type checking alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = f"callbacks.{child.module}" if child.level else child.module or ""  # relative in callbacks alone
            inner = [f"{module}.{alias.name}" for alias in child.names]
            yield from (name if name in MODULES else module for name in inner)
        elif type_checking or not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from imports(child, type_checking)


def importers(paths: list[Path], package: str) -> set[str]:
    """The files among ``paths`` that import ``package`` or something in it."""
    return {
        named(path)
        for path in paths
        if package in {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    }


@pytest.mark.parametrize(("below", "above"), [(LIBRARY, "callbacks"), (LIBRARY, "main"), (CALLBACKS, "main")])
def test_law_9_nothing_imports_what_is_above_it(below: list[Path], above: str) -> None:
    assert len(below) > 1
    assert importers(below, above) == set()


def test_law_9_only_tracking_and_report_import_mlflow() -> None:
    allowed = ("omnithink_pl/tracking/", "omnithink_pl/report/")
    assert {name for name in importers(SHIPPED, "mlflow") if not name.startswith(allowed)} == set()


def test_callbacks_import_each_other_relatively_and_nothing_else_does() -> None:
    """The folder is the package ``callbacks`` in a checkout, and ``omnithink.callbacks`` once installed."""
    relative = [path for path in SHIPPED if re.search(r"^from \.", path.read_text(), re.MULTILINE)]
    assert relative
    assert {path.parent.name for path in relative} == {"callbacks"}
    assert importers(CALLBACKS, "callbacks") <= {named(path) for path in relative}
    assert [
        named(path) for path in CALLBACKS if re.search(r"^\s*(from|import) callbacks\b", path.read_text(), re.M)
    ] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        name: {found for found in imports(ast.parse(path.read_text()), type_checking=False) if found in MODULES}
        - {name}
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_core_data_types_import_nothing_of_ours() -> None:
    assert set(imports(ast.parse((ROOT / "omnithink_pl" / "types.py").read_text()))) & MODULES.keys() == set()


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


def test_files_and_functions_stay_short() -> None:
    files = {named(path): len(path.read_text().splitlines()) for path in SHIPPED}
    assert {name: length for name, length in files.items() if length > 600} == {}
    assert files["main.py"] <= 90, "a page"
    functions = {
        f"{named(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SHIPPED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, FUNCTIONS)
    }
    assert {name: length for name, length in functions.items() if length > 50} == {}
