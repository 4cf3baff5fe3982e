"""The configs of real size: data prepared from a hub, then a step of training without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from main import CONFIGS, main
from omnithink_pl.model.policy import policy_path
from omnithink_pl.study.definition import Definition, Job, Run
from tests.evaluation.suites.rows import BIGCODEBENCH, MATH, MMLU_PRO, STDIN, gpt4, mt_bench, question, write
from tests.judge.scripted import scripted_server
from tests.sources.copies import ASKED, hub_copies, qa_rows
from tests.sources.hub import fake_hub

pytestmark = pytest.mark.slow
LARGE = [f"--config={CONFIGS}/scale/qwen2.5-7b.yaml"]
SMALL = [*LARGE, f"--config={CONFIGS}/scale/qwen2.5-0.5b.yaml"]
ROWS = 40


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy of Qwen2.5's architecture with a tokenizer and a chat template."""
    directory = tmp_path_factory.mktemp("policy")
    tokenizer = AutoTokenizer.from_pretrained(policy_path("embedded"))
    tokenizer.save_pretrained(directory)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(autouse=True)
def _homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    monkeypatch.setenv("COLUMNS", "160")


def needed(policy: Path | str, url: str) -> list[str]:
    """What is not to be had here: the policy, the judge; vLLM has tests of its own."""
    judge = "--data.tasks.writing.init_args.judge.init_args"
    return [
        f"--model.policy={policy}",
        f"--data.tasks.code.init_args.source.init_args.curation.tokenizer={policy}",
        f"{judge}.endpoint.base_url={url}",
        f"{judge}.endpoint.api_key_env=null",
        f"{judge}.cache=null",
        "--model.engine=omnithink_pl.rollout.TransformersEngine",
        "--data.tasks.math.init_args.workers=1",
    ]


def short(directory: Path) -> list[str]:
    return [
        "--trainer.fast_dev_run=1",
        f"--trainer.default_root_dir={directory}",
        "--evaluation.evaluator.prompts=2",
        "--evaluation.evaluator.max_tokens=8",
        "--model.sampling.max_tokens=8",
        "--model.sampling.group_size=2",
        "--data.batch_size=4",
    ]


def resolved(arguments: list[str], file: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["fit", *arguments, "--print_config"])
    file.write_text(capsys.readouterr().out)
    return file


def test_what_is_prepared_trains_without_a_network(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_server() as server:
        arguments = [*LARGE, *needed(policy, server.url)]
        with fake_hub(hub_copies(tmp_path / "copies", ROWS), monkeypatch):
            main(["prepare", *arguments, "--trainer.logger=false"])
            shown = capsys.readouterr().out
            assert "MMLU-Pro: what became of the seven old lighthouses" in shown
        printed = resolved(arguments, tmp_path / "printed.yaml", capsys)
        cli = main(["fit", f"--config={printed}", *short(tmp_path)])
    assert cli.model.steps_done == 4, "one of each stage"
    distinct = {(row["question"], row["answer"]) for row in qa_rows("train", ROWS)}  # one of them contaminated
    assert {name: len(examples) for name, examples in cli.datamodule.held_out.items()} == {
        "code": ROWS // 4,  # the data's own test split
        "math": ROWS // 5,
        "qa": (len(distinct) - 1) // 5,
        "writing": ROWS // 5,
    }
    assert not any(ASKED in example.question for example in cli.datamodule.train)


def tiny_benchmarks(directory: Path, url: str) -> list[str]:
    """One row for each of the paper's benchmarks, and a judge."""
    single = {"aime24": "AIME24", "amc23": "AMC23", "gaokao2023en": "Gaokao2023EN", "math500": "Math500"}
    rows = {name: MATH[source] for name, source in single.items()}
    rows |= {"minerva_math": MATH["Minerva"], "olympiadbench": MATH["OlympiadBench"], "mmlu_pro": MMLU_PRO}
    rows |= {"mmlu_pro_letter": MMLU_PRO, "bigcodebench": BIGCODEBENCH, "livecodebench": STDIN}
    paths = {name: write(directory / f"{name}.jsonl", row) for name, row in rows.items()}
    paths["mt_bench"] = mt_bench(directory / "mt", [question(81)], [gpt4(81)])
    judge = "--data.benchmarks.mt_bench.task.init_args.judge.init_args"
    sandbox = "--data.benchmarks.bigcodebench.task.init_args.sandbox"
    return [
        *(f"--data.benchmarks.{name}.task.init_args.source.init_args.path={path}" for name, path in paths.items()),
        f"{judge}.endpoint.base_url={url}",
        f"{judge}.endpoint.api_key_env=null",
        f"{sandbox}=omnithink_pl.sandbox.one_process.OneProcess",
        f"{sandbox}.init_args.inside_container=true",
    ]


def shrunk(job: Job, needed: list[str], benchmarks: list[str]) -> list[str]:
    """What makes a run of the study small enough, behind all that it names itself."""
    if job.verb == "merge":
        return [f"--base={policy_path('embedded')}"]
    one = {"accelerator": "cpu", "strategy": "auto", "devices": "1", "logger": "false"}
    small = [*needed, *(f"--trainer.{key}={value}" for key, value in one.items())]
    if job.verb == "validate":
        return [*small, *benchmarks, "--model.sampling.max_tokens=8"]
    if job.verb == "predict":
        return [*small, "--model.sampling.group_size=2", "--model.sampling.max_tokens=56"]
    small += ["--data.batch_size=4", "--curriculum.steps={code: 1, math: 1, qa: 1, writing: 1}"]
    small += [f"--{key}.evaluator={{prompts: 1, max_tokens: 4}}" for key in ("evaluation", "validation")]
    return small if job.run == "sft" else [*small, "--model.sampling={group_size: 2, max_tokens: 8}"]


def test_every_run_of_the_study_of_the_papers_size_is_carried_out_with_a_tiny_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command as the study has it, then what makes it small; of the runs that only evaluate, the base's."""
    plain = yaml.safe_load((CONFIGS / "studies" / "paper_7b.yaml").read_text())
    monkeypatch.chdir(CONFIGS.parent)  # the study names its configs so
    runs = {name: Run(**about) for name, about in plain["runs"].items()}
    jobs = Definition("paper_7b", runs, plain["seeds"], plain["arguments"], tmp_path / "out").jobs()
    with scripted_server() as server, fake_hub(hub_copies(tmp_path / "copies", ROWS), monkeypatch):
        benchmarks = tiny_benchmarks(tmp_path / "benchmarks", server.url)
        for job in jobs:
            if job.verb != "validate" or job.run == "base_asked":
                own = needed(policy_path("embedded"), server.url)
                main([*job.command("sqlite:///none.db", "none"), *shrunk(job, own, benchmarks)])
    asked = {job.run: job.arguments for job in jobs if job.verb == "validate"}
    assert asked.keys() == {f"{name}_asked" for name in ("base", *runs) if f"{name}_asked" in runs}
    for arguments in asked.values():  # the same of other policies, which are there
        policies = [one.partition("=")[2] for one in arguments if one.startswith("--model.policy=")]
        assert all((Path(policy) / "config.json").is_file() for policy in policies)
        common = [one for one in arguments if not one.startswith(("--model.policy=", "--output="))]
        assert common == [one for one in asked["base_asked"] if not one.startswith("--output=")]
    merged = json.loads(next((tmp_path / "out").glob("paper_7b/seed_0/merged/*/policy/merge.json")).read_text())
    assert [Path(model).name for model in merged["models"]] == ["1_code", "1_math", "1_qa", "1_writing"], (
        "the best ones"
    )


def test_the_small_config_is_a_delta_for_the_large_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = yaml.safe_load(resolved(SMALL, tmp_path / "printed.yaml", capsys).read_text())
    assert printed["model"]["init_args"]["policy"] == "Qwen/Qwen2.5-0.5B-Instruct"
    assert printed["data"]["tasks"]["math"]["init_args"]["source"]["init_args"]["curation"]["rows"] == 12000


def test_every_value_of_a_scale_config_says_where_it_comes_from() -> None:
    for file in ("qwen2.5-7b.yaml", "qwen2.5-0.5b.yaml"):
        text = (CONFIGS / "scale" / file).read_text()
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        model = lines[lines.index("model:") + 1 :]
        for key in ("policy:", "group_size:", "max_tokens:", "micro_batch_tokens:", "lr:"):
            (line,) = [line for line in model if key in line and "evaluator" not in line][:1]
            assert any(mark in line for mark in ("[paper]", "[code-r1]", "[TRL]", "[ours]")), line
        assert yaml.safe_load(text)["name"] == file.removesuffix(".yaml")
