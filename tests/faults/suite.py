"""Disturbs a short run, continues it until it ends well, and compares it with one that was not disturbed."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from main import CONFIGS, main
from omnithink_pl.errors import OmniThinkError
from tests.callbacks.test_resume import TIMED, assert_same
from tests.faults.plans import Fault, Plan
from tests.faults.world import World

BUG = 70  # exit code of a run that an error of no known kind ended
LIMIT = 1200.0  # seconds until a run is taken to hang; machines are shared
ATTEMPTS = 3  # to continue it
# What is spent on a verdict: nothing where a step is repeated, whose verdicts are cached.
SPENT = re.compile(r"/sandbox/|/judge/(cached|retries|unparseable|cost|seconds_per_reply|\w+_tokens)$")
RESUMED = re.compile(r"_from_step_|^changes\.json$")  # files that only a continued run has
PARTS = ("state_dict", "optimizer_states", "steps_done", "reference", "kl", "failures")
_JUDGE = "--data.tasks.writing.init_args.judge.init_args"


def settings(world: World) -> list[str]:
    """Return the arguments of a run of two stages over all four tasks."""
    logger = "--trainer.logger.init_args"
    return [
        "fit",
        f"--config={CONFIGS / 'judge' / 'openai.yaml'}",
        "--name=short",
        "--curriculum.stages=[{tasks: {code: 1, writing: 1}, steps: 2}, {tasks: {math: 1, qa: 1}, steps: 2}]",
        "--data.batch_size=2",
        "--data.tasks.math.init_args.source=tests.faults.rows.RootMath",
        "--model.sampling.group_size=4",
        "--model.sampling.temperature=0.3",  # nearly greedy: completions have answers, for judge, sandbox and verifier
        "--model.kl.reference=stage",
        "--model.failures={max_rate: 0.0, window: 1}",  # or results would differ by what failed
        "--evaluation.evaluator.prompts=2",
        "--evaluation.evaluator.samples=1",
        "--checkpoints.every_n_steps=1",
        f"{_JUDGE}.endpoint.base_url={world.judge.url}",
        f"{_JUDGE}.endpoint.api_key_env=null",
        f"{_JUDGE}.endpoint.attempts=2",
        f"{_JUDGE}.endpoint.longest_wait=0.01",
        f"{_JUDGE}.cache={world.directory}/judge.sqlite",
        f"--trainer.default_root_dir={world.folders['runs']}",
        f"{logger}.tracking_uri={world.tracking_uri}",
        f"{logger}.artifact_location={world.folders['artifacts'].as_uri()}",
    ]


def start(world: World, *more: str, orders: Mapping[str, Any] | None = None) -> int | None:
    """Run in a process of its own, with its output in ``log``; return its exit code, ``None`` if it hangs."""
    arguments = [*settings(world), *more]
    if orders is not None:
        path = world.directory / "orders.json"
        path.write_text(json.dumps(orders))
        disturber = f"{{class_path: tests.faults.disturber.Disturber, init_args: {{orders: {path}}}}}"
        arguments.append(f"--trainer.callbacks=[{disturber}]")
    process = multiprocessing.get_context("fork").Process(target=_run, args=(arguments, world.directory / "log"))
    process.start()
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def _run(arguments: list[str], log: Path) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # not pytest's own
    warnings.resetwarnings()  # which pytest makes errors: a run that warns goes on
    sys.argv = ["main.py"]
    print("\n==", *arguments[-1:], flush=True)
    try:
        main(arguments)
    except OmniThinkError as error:
        sys.exit(f"error: {error}")
    except SIGTERMException:
        sys.exit(128 + signal.SIGTERM)
    except Exception:  # noqa: BLE001  (a finding, whatever it is)
        traceback.print_exc()
        sys.exit(BUG)


@dataclass
class Outcome:
    """What a run left behind.

    Args:
        checkpoint: Its last checkpoint.
        metrics: Points of each metric; of times only the steps, of what was spent nothing.
        tables: Its tables and the score matrix, by path.
        files: Names of the files in its folder and of its artifacts.
    """

    checkpoint: dict[str, Any]
    metrics: dict[str, list[tuple[int, float]]]
    tables: dict[str, Any]
    files: set[str] = field(default_factory=set)


def outcome(world: World) -> Outcome:
    """Read what the one finished run left."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{world.database}")
    runs = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert sorted(run.info.status for run in runs)[-1] != "RUNNING", "a run still shows as running"
    (run,) = (run for run in runs if run.info.status == "FINISHED")
    folder = Path(run.data.tags["folder"])
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    written = {str(file.relative_to(artifacts)): file for file in artifacts.rglob("*") if file.is_file()}
    return Outcome(
        torch.load(folder / "last.ckpt", weights_only=True),
        {
            name: sorted(  # MLflow orders by time, and clocks go back
                (point.step, 0.0 if TIMED.search(name) else point.value)
                for point in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
            if not SPENT.search(name)
        },
        {
            path: json.loads(file.read_text())
            for path, file in written.items()
            if path.startswith("rollouts/") or path == "score_matrix.json"
        },
        {path for path in written if not RESUMED.search(path)}
        | {f"folder/{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()},
    )


def assert_equal(expected: Outcome, got: Outcome) -> None:
    """Compare bit for bit what the laws promise."""
    for part in PARTS:
        assert_same(expected.checkpoint[part], got.checkpoint[part], part)
    ours, theirs = (one.checkpoint["callbacks"]["StageEvaluation"] for one in (expected, got))
    assert_same(ours, theirs, "score matrix")
    assert_same(expected.metrics, got.metrics, "metrics")
    assert_same(expected.tables, got.tables, "tables")
    assert expected.files == got.files, f"files: {expected.files ^ got.files}"


class Suite:
    """An undisturbed run, and disturbed ones to be compared with it.

    Args:
        directory: An empty folder.
    """

    def __init__(self, directory: Path) -> None:
        from omnithink_pl.tracking.store import connect

        self.directory = directory
        self.store = directory / "empty.db"
        connect(f"sqlite:///{self.store}")
        with World(directory / "undisturbed", self.store) as world:
            orders = {"folders": {name: str(path) for name, path in world.folders.items()}}
            code = start(world, orders=orders)
            assert code == 0, (world.directory / "log").read_text()
            self.counts: dict[str, int] = json.loads((world.directory / "counts.json").read_text())
            self.expected = outcome(world)

    def disturb(self, seed: int) -> str:
        """Disturb a run as a seed says; return what happened.

        Raises:
            AssertionError: If the run does not come to the undisturbed result; has the seed, and where the log is.
        """
        plan = Plan.draw(seed, self.counts)
        directory = self.directory / f"seed-{seed}"
        with World(directory, self.store, plan) as world:
            try:
                codes = self._run(plan, world)
                assert_equal(self.expected, outcome(world))
            except AssertionError as error:
                raise AssertionError(f"{plan}: {error}\nlog: {directory / 'log'}") from error
        shutil.rmtree(directory)
        return f"{plan}: exit codes {', '.join(map(str, codes))}"

    def _run(self, plan: Plan, world: World) -> list[int | None]:
        orders = {
            "plan": asdict(plan),
            "folders": {name: str(path) for name, path in world.folders.items()},
            "mounted": world.mounted,
            "judge": world.judge.process.pid,
            "server": world.server.process.pid if world.server else None,
        }
        codes = [start(world, orders=orders)]
        assert codes[0] in EXPECTED.get(plan.fault, (0, 1)), f"exit code {codes[0]}"
        while codes[-1] != 0:
            assert len(codes) <= ATTEMPTS, f"still no success after exit codes {codes}"
            world.mend()
            codes.append(start(world, "--ckpt_path=last"))
            assert codes[-1] in (0, 1), f"exit code {codes[-1]} on continuing"
        return codes


EXPECTED: dict[Fault, tuple[int, ...]] = {
    Fault.KILL: (-signal.SIGKILL,),
    Fault.CLOCK_BACK: (-signal.SIGKILL, 0),
    Fault.SIGTERM: (128 + signal.SIGTERM, 0),
}
"""Exit codes of disturbed runs, where they are not 0 for a run that did not mind, or 1."""
