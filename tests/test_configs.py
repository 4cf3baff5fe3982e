"""Every config parses, composes with the defaults, and what it resolves to runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

from main import CONFIGS, TOOLS, main, run_tool
from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm import process as build
from tests.judge.scripted import scripted_server

# Engines that are installed apart have tests apart: tests/vllm/test_fit.py runs configs/rollout/. What is only for
# ``validate`` is parsed below, tools have parsers of their own, tests/test_scale.py runs those of real size,
# tests/callbacks/test_demonstrations.py runs predict, and tests/distributed what needs several processes.
APART, ELSEWHERE = {"rollout", "benchmarks", "studies"}, {"base", "fsdp", "sft_data", *TOOLS}
DELTAS = sorted(p for p in CONFIGS.rglob("*.yaml") if p.stem not in ELSEWHERE and p.parent.name not in APART)
DELTAS = [path for path in DELTAS if not path.name.startswith("qwen")]


def resolved(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    with pytest.raises(SystemExit) as ended:
        main(["fit", *arguments, "--print_config"])
    assert ended.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def demonstration(task: str) -> dict[str, object]:
    return {"task": task, "messages": [{"role": "user", "content": "add"}], "completion": "<answer>2</answer>"}


@contextmanager
def needed_by(config: Path, directory: Path) -> Iterator[list[str]]:
    """Arguments for a small run, and those without which a config cannot run here: an endpoint, a data set."""
    if config.stem == "sft":
        Dataset.from_list([demonstration(task) for task in ("code", "math", "qa", "writing")]).save_to_disk(directory)
        yield [f"--data.demonstrations={directory}"]
        return
    if config.parent.name != "judge":
        yield ["--model.sampling.group_size=2"]
        return
    judge = "--data.tasks.writing.init_args.judge.init_args"
    with scripted_server() as server:
        yield [
            "--model.sampling.group_size=2",
            f"{judge}.endpoint.base_url={server.url}",
            f"{judge}.endpoint.api_key_env=null",
            f"{judge}.cache={directory}/judge.sqlite",
        ]


@pytest.mark.parametrize("config", DELTAS, ids=[str(path.relative_to(CONFIGS)) for path in DELTAS])
def test_law_8_every_config_parses_and_its_printed_config_runs(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = tmp_path / "printed.yaml"
    printed.write_text(yaml.safe_dump(resolved([f"--config={config}"], capsys)))
    with needed_by(config, tmp_path) as needed:
        cli = main(
            [
                "fit",
                f"--config={printed}",
                "--trainer.fast_dev_run=1",
                f"--trainer.default_root_dir={tmp_path}",
                "--evaluation.evaluator.prompts=2",
                "--evaluation.evaluator.samples=1",
                "--data.batch_size=4",
                *needed,
            ]
        )
    assert cli.model.steps_done == 1


@pytest.mark.parametrize("config", sorted((CONFIGS / "rollout").iterdir()), ids=lambda path: path.stem)
def test_a_config_of_vllm_parses_without_it_and_says_when_used_how_it_is_installed(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    engine = resolved([f"--config={config}"], capsys)["model"]["init_args"]["engine"]
    assert engine["init_args"].items() >= yaml.safe_load(config.read_text())["model"]["engine"]["init_args"].items()
    with pytest.raises(BadInput, match="vLLM is not installed; run `make setup-vllm`"):
        main(["fit", f"--config={config}", "--trainer.logger=false"])


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_every_config_of_a_verb_without_a_trainer_parses(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    for config in CONFIGS.rglob(f"{tool}.yaml"):
        with pytest.raises(SystemExit) as ended:
            run_tool(tool, [f"--config={config}", "--print_config"])
        assert ended.value.code == 0
        assert yaml.safe_load(capsys.readouterr().out).items() >= yaml.safe_load(config.read_text()).items()


def test_overrides_change_one_key_and_leave_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    got = resolved(["--model.kl.beta.math=0", "--curriculum.stages=[{tasks: {math: 2}, steps: 5}]"], capsys)
    assert got["model"]["init_args"]["kl"]["beta"] == {"code": 0.01, "math": 0.0, "qa": 0.01, "writing": 0.01}
    assert got["curriculum"]["stages"] == [{"tasks": {"math": 2.0}, "steps": 5}]


def test_the_papers_benchmarks_are_those_of_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks = resolved([f"--config={CONFIGS / 'benchmarks' / 'paper.yaml'}"], capsys)["data"]["benchmarks"]
    domains: dict[str, list[str]] = {}
    for name, one in benchmarks.items():
        domains.setdefault(one["domain"] or one["task"]["class_path"].rpartition(".")[2].lower(), []).append(name)
    assert domains == {
        "math": ["aime24", "amc23", "gaokao2023en", "math500", "minerva_math", "olympiadbench"],
        "qa": ["mmlu_pro"],
        "qa_letter": ["mmlu_pro_letter"],
        "code": ["bigcodebench", "livecodebench"],
        "writing": ["mt_bench"],
    }
    assert (benchmarks["aime24"]["samples"], benchmarks["math500"]["samples"]) == (5, 1)


def test_letters_are_all_that_the_ablation_changes(capsys: pytest.CaptureFixture[str]) -> None:
    base, letters = resolved([], capsys), resolved([f"--config={CONFIGS / 'ablations' / 'letter_qa.yaml'}"], capsys)
    assert letters["data"]["tasks"]["qa"]["init_args"].pop("answer") == "letter"
    assert base["data"]["tasks"]["qa"]["init_args"].pop("answer") == "text"
    letters["name"] = base["name"]
    assert letters == base


def test_the_judge_is_all_that_its_overlay_changes(capsys: pytest.CaptureFixture[str]) -> None:
    base, judged = resolved([], capsys), resolved([f"--config={CONFIGS / 'judge' / 'openai.yaml'}"], capsys)
    assert judged["data"]["tasks"]["writing"]["init_args"].pop("judge") is not None
    del base["data"]["tasks"]["writing"]["init_args"]["judge"]
    assert judged == base


def test_the_orders_differ_in_their_stages_only(capsys: pytest.CaptureFixture[str]) -> None:
    def without_stages(name: str) -> tuple[dict, list]:
        got = resolved([f"--config={CONFIGS / name}.yaml"], capsys)
        del got["name"]
        return got, got.pop("curriculum")["stages"]

    base, stages = without_stages("curriculum")
    assert [list(stage["tasks"]) for stage in stages] == [["code"], ["math"], ["qa"], ["writing"]]
    for name in ("reverse", "joint", "single_code", "single_math", "single_qa", "single_writing"):
        other, _ = without_stages(name)
        assert other == base
    assert without_stages("reverse")[1] == stages[::-1]
    (joint,) = without_stages("joint")[1]
    assert joint["steps"] == sum(stage["steps"] for stage in stages)


@pytest.mark.parametrize(
    ("part", "key", "value", "source"),
    [
        ("data", "seed", 3, "seed_everything"),
        ("model", "tasks", {}, "data.tasks"),
        ("model", "init_args", {"seed": 3}, "seed_everything"),
    ],
)
def test_a_key_that_would_be_ignored_is_refused(
    part: str, key: str, value: object, source: str, tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({part: {key: value}}))
    key = "seed" if key == "init_args" else key
    with pytest.raises(BadInput, match=rf"mine\.yaml: {part}\.{key} follows from {source}; set {source} instead"):
        main(["fit", f"--config={config}"])
