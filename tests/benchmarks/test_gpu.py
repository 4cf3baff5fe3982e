"""The half hour on a GPU: what it imports, and that no failure, no lack of time and no missing package ends it."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import plan as plans
from benchmarks.gpu.attention import by_kernel, drawn
from benchmarks.gpu.case import Case, pass_flops, shown
from benchmarks.gpu.plan import Measurement, plan
from omnithink_pl.model.attention_tiles import TiledAttention
from omnithink_pl.model.packing import pack_rows
from tests.tiny import tiny_qwen

ROOT = Path(__file__).resolve().parents[2]
GIVEN = {"torch", "transformers", "numpy"}  # what the GPU machine has
HIDER = """
import sys
from importlib.machinery import PathFinder
class Hider(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hider
"""


def at_module_level(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield from at_module_level([*node.body, *node.orelse])


def imported(name: str, seen: set[str]) -> set[str]:
    """The foreign packages that importing one of our modules imports, by whatever way."""
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if name in seen or not file.exists():
        return set()
    seen.add(name)
    found = imported(name.rpartition(".")[0], seen) if "." in name else set()
    for node in at_module_level(ast.parse(file.read_text()).body):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            whole = f"{module}.{alias.name}" if module else alias.name
            if whole.partition(".")[0] not in {"benchmarks", "omnithink_pl"}:
                found.add(whole.partition(".")[0])
            else:
                found |= imported(whole, seen) | imported(module, seen)
    return found


def test_stage_a_imports_torch_transformers_and_numpy_alone() -> None:
    modules = {one.function.partition(":")[0] for one in plan() if one.needs != "vllm"}
    assert modules >= {"machine", "layers", "attention", "head", "offload"}
    for module in (*modules, "__main__", "child"):
        foreign = imported(f"benchmarks.gpu.{module}", set()) - set(sys.stdlib_module_names)
        assert foreign <= GIVEN, module
    foreign = imported("benchmarks.gpu.__main__", set()) - set(sys.stdlib_module_names)
    assert foreign == set(), "the process that waits for the others holds no library"


def other_packages() -> list[str]:
    """Every package here that torch, transformers and numpy do not need."""
    needed, waiting = {"omnithink-pl"}, ["torch", "transformers", "numpy"]
    while waiting:
        name = waiting.pop().replace("_", "-").lower()
        if name in needed:
            continue
        needed.add(name)
        try:
            asked = requires(name) or []
        except ModuleNotFoundError:
            continue
        waiting += [name for line in asked if "extra ==" not in line for name in re.findall(r"^[\w-]+", line)]
    names = packages_distributions().items()
    return sorted(root for root, owners in names if not {o.replace("_", "-").lower() for o in owners} & needed)


def run(tmp_path: Path, *arguments: str) -> list[dict]:
    hidden = other_packages()
    assert {"lightning", "mlflow", "jsonargparse", "peft", "datasets"} <= set(hidden)
    (tmp_path / "sitecustomize.py").write_text(HIDER.format(hidden=hidden))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--size=mini", "--device=cpu", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_runs_without_any_other_package(tmp_path: Path) -> None:
    rows = run(tmp_path, "--minutes=5", "--only", "layers/bfloat16")
    assert [row for row in rows if "error" in row] == []
    assert rows[0].keys() >= {"measurement", "tflop", "forward_ms", "backward_ms", "both"}
    assert rows[-2].keys() >= {"ms_per_layer", "projected_tokens_per_second"}
    assert rows[-1].keys() == {"measurement", "took"}


# Compiling takes minutes where it has to be done for a CPU.
STAGE_A = [one for one in plan() if not one.needs and one.name != "layers/compiled"]


@pytest.mark.parametrize("measurement", STAGE_A, ids=[one.name for one in STAGE_A])
def test_every_measurement_of_stage_a_runs(measurement: Measurement) -> None:
    module, _, function = measurement.function.partition(":")
    call = getattr(import_module(f"benchmarks.gpu.{module}"), function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice to compile flex_attention, on its profiler
        rows = list(call(Case.of("mini", "cpu"), **measurement.arguments))
    assert rows
    assert [json.loads(json.dumps(row)) for row in rows] == rows


def measured(measurement: Measurement, limit: float = 600.0) -> dict:
    copy = io.StringIO()
    gpu.measure(copy, measurement, {"size": "mini", "device": "cpu"}, limit)
    return json.loads(copy.getvalue().splitlines()[-1])


def test_a_measurement_that_fails_or_lasts_too_long_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    row = measured(Measurement("wrong", "machine:nothing"))
    assert row["exit_code"] == 1
    assert row["error"].endswith("has no attribute 'nothing'")
    row = measured(Measurement("slow", "machine:machine"), limit=1.0)
    assert (row["measurement"], row["error"]) == ("slow", "it took too long")


def test_what_no_time_is_left_for_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--minutes=0", "--size=mini"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["measurement"] for row in rows] == [one.name for one in plan()]
    assert all("s left" in row["left_out"] for row in rows)


def test_every_measurement_has_its_function_and_a_package_that_is_missing_leaves_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plans, "find_spec", lambda name: None)
    assert {one.needs for one in plan()} == {""}
    monkeypatch.setattr(plans, "find_spec", lambda name: name)
    for one in plan():
        module, _, function = one.function.partition(":")
        assert callable(getattr(import_module(f"benchmarks.gpu.{module}"), function)), one
    assert [one.name for one in plan(["attention/v", "fit"])] == ["attention/varlen", "fit"]


def test_flex_attention_sees_what_tiles_see() -> None:
    case = Case.of("mini", "cpu")
    spans = pack_rows(*case.micro_batch()).spans
    parts = [part.detach() for part in drawn(case, sum(span.length for span in spans), torch.float32)]
    expected = TiledAttention.of(spans, torch.device("cpu")).attend(*parts, scale=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice to compile it
        found = by_kernel("flex", spans, torch.device("cpu"))(*parts)
    assert torch.allclose(found, expected, atol=1e-5)


def test_operations_are_counted_once_for_what_is_shown() -> None:
    row = pack_rows([[1, 2, 3]], [[[4, 5], [6]]])
    assert shown(row.spans) == (1 + 2 + 3) + (4 + 5) + 4
    model = tiny_qwen(tie_word_embeddings=False)
    weights = [m.weight.numel() for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    linear = 6 * (6 * sum(weights) + 3 * model.lm_head.weight.numel())
    assert pass_flops(model, row) == linear + 12 * 2 * 2 * 32 * shown(row.spans)
