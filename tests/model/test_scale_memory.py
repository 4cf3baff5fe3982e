"""Every file of configs/scale/ fits the GPUs that it names, and the plan agrees with PyTorch's memory tracker."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PretrainedConfig, Qwen2Config

from benchmarks.tracked import tracked
from main import CONFIGS, main
from omnithink_pl.model.adapter import LoRA
from omnithink_pl.model.budget import Machine, Settings, Sizes, memory, peak
from omnithink_pl.model.logprobs import chunk_of_logits
from omnithink_pl.model.policy import policy_path
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.verbs import budget_settings
from tests.model.sizes import HALF, SEVEN

GIB = 2**30
SMALL = ["qwen2.5-7b", "qwen2.5-0.5b"]
# Files, GPUs, GiB of each, and the policy that they name.
FITS: dict[str, tuple[list[str], int, float, Qwen2Config]] = {
    "7b, fsdp": (["qwen2.5-7b", "fsdp"], 8, 80, SEVEN),
    "7b, fsdp, lora": (["qwen2.5-7b", "fsdp", "lora"], 8, 48, SEVEN),
    "7b, lora": (["qwen2.5-7b", "lora"], 1, 80, SEVEN),
    "0.5b": (SMALL, 1, 24, HALF),
    "0.5b, lora": ([*SMALL, "lora"], 1, 24, HALF),
}
EACH = pytest.mark.parametrize("name", FITS)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer beside a config: all that a plan reads of a policy."""
    path = tmp_path_factory.mktemp("policies")
    for config in (SEVEN, HALF):
        AutoTokenizer.from_pretrained(policy_path("embedded")).save_pretrained(path / str(config.hidden_size))
        config.save_pretrained(path / str(config.hidden_size))
    return path


@cache
def planned(name: str, directory: Path) -> tuple[PretrainedConfig, Settings, LoRA | None]:
    """What `budget` makes of the files."""
    files, gpus, gib, config = FITS[name]
    arguments = [f"--config={CONFIGS}/scale/{file}.yaml" for file in files]
    cli = main(["budget", *arguments, f"--model.policy={directory / str(config.hidden_size)}"])
    assert cli is not None
    assert isinstance(cli.model, MultiTaskGRPO)
    settings = budget_settings(
        cli.model,
        prompts=cli.datamodule.batch_size,
        prompt_tokens=256,
        completion_tokens=600,
        precision=str(cli.trainer.precision),
        gpus=gpus,
        sharded="fsdp" in files,
        logits=chunk_of_logits(gib * GIB),
    )
    assert settings.prompts // gpus >= 4, "fewer prompts leave GPUs waiting for the longest completion"
    assert settings.compute == settings.engine_weights == "bfloat16", "engine and trainer compute alike"
    return config, settings, cli.model.adapter


@EACH
def test_the_plan_of_a_scale_config_fits_what_the_file_names_without_vllm(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnithink_pl.rollout.vllm.process.find_spec", lambda name: None)
    config, settings, adapter = planned(name, directory)
    files, gpus, gib, _ = FITS[name]
    phases = memory(Sizes.of(config, adapter), settings, Machine(memory_gib=gib))
    assert peak(phases) / GIB < 0.9 * gib, phases
    heads = "".join((CONFIGS / "scale" / f"{file}.yaml").read_text().partition("\nname:")[0] for file in files)
    assert f"{gpus} GPU{'s' if gpus > 1 else ''} of {gib:.0f} GB" in heads or f"of {gib:.0f} GB" in heads


def test_budget_says_how_many_layers_could_keep_their_activations(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"--config={CONFIGS}/scale/{file}.yaml" for file in ("qwen2.5-7b", "fsdp")]
    main(["budget", *files, f"--model.policy={directory / str(SEVEN.hidden_size)}", "--gpus=8", "--sharded=true"])
    (room,) = re.findall(
        r"(\d+) of 28 layers can keep .* --model\.memory\.kept_layers=\1, an update of", capsys.readouterr().out
    )
    assert 0 < int(room) < 28


def trainer_peak(config: PretrainedConfig, settings: Settings, adapter: LoRA | None) -> float:
    phases = memory(Sizes.of(config, adapter), replace(settings, engine_sleeps=True, cuda_graphs=False))
    return peak({phase: phases[phase] for phase in ("update", "optimiser")})


@pytest.mark.parametrize("name", ["7b, fsdp", "0.5b"])
def test_the_plan_of_a_shallow_model_agrees_with_the_tracker(name: str, directory: Path) -> None:
    config, settings, adapter = planned(name, directory)
    config = type(config)(**config.to_dict() | {"num_hidden_layers": 2, "layer_types": None})
    assert trainer_peak(config, settings, adapter) == pytest.approx(tracked(config, settings, adapter), rel=0.15)


@pytest.mark.parametrize(
    ("layers", "kept"), [pytest.param(3, 1, id="shallow"), pytest.param(28, 8, id="7b", marks=pytest.mark.slow)]
)
def test_the_plan_of_layers_that_keep_their_activations_agrees_too(layers: int, kept: int, directory: Path) -> None:
    config, settings, adapter = planned("7b, fsdp", directory)
    config = type(config)(**config.to_dict() | {"num_hidden_layers": layers, "layer_types": None})
    settings = replace(settings, kept_layers=kept)
    found, plan = tracked(config, settings, adapter), trainer_peak(config, settings, adapter)
    print(f"{kept} of {layers} layers kept: tracked {found / GIB:.2f} GiB, planned {plan / GIB:.2f}")
    assert plan == pytest.approx(found, rel=0.15)
    assert found > tracked(config, replace(settings, kept_layers=0), adapter)


@pytest.mark.slow
@EACH
def test_a_scale_config_fits_by_the_tracker_and_its_plan_agrees(name: str, directory: Path) -> None:
    config, settings, adapter = planned(name, directory)
    found = tracked(config, settings, adapter)
    print(f"{name}: tracked {found / GIB:.2f} GiB, planned {trainer_peak(config, settings, adapter) / GIB:.2f}")
    assert found / GIB < 0.9 * FITS[name][2]
    assert trainer_peak(config, settings, adapter) == pytest.approx(found, rel=0.15)
