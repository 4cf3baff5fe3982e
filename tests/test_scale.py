"""The configs of real size: data prepared from a hub, then a step of training without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from main import CONFIGS, main
from omnithink_pl.model.policy import policy_path
from tests.judge.scripted import scripted_server
from tests.sources.copies import ASKED, hub_copies
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


def needed(policy: Path, url: str) -> list[str]:
    """What is not to be had here: the policy, the judge; vLLM has tests of its own."""
    judge = "--data.tasks.writing.init_args.judge.init_args"
    return [
        f"--model.policy={policy}",
        f"--data.tasks.code.init_args.source.init_args.curation.tokenizer={policy}",
        f"{judge}.endpoint.base_url={url}",
        f"{judge}.endpoint.api_key_env=null",
        f"{judge}.cache=null",
        "--model.engine=omnithink_pl.rollout.TransformersEngine",
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
    assert cli.model.steps_done == 1
    assert {name: len(examples) for name, examples in cli.datamodule.held_out.items()} == {
        "code": ROWS // 4,  # the data's own test split
        "math": ROWS // 5,
        "qa": (ROWS - 1) // 5,
        "writing": ROWS // 5,
    }
    assert not any(ASKED in example.question for example in cli.datamodule.train)


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
