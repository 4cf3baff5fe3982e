"""Natural overrides: each has the right result, or an error of at most three lines that names the cure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from callbacks.command_line import CommandLine
from main import CONFIGS, main
from omnithink_pl.cli import run
from omnithink_pl.config_files import with_paths
from omnithink_pl.config_text import read_config
from omnithink_pl.errors import BadInput, OmniThinkError

BASE = CONFIGS / "base.yaml"


class Parsed(Exception):
    pass


class OnlyParses(CommandLine):
    """The command line up to the settings that it would run."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        super().parse_arguments(parser, args)
        raise Parsed(self._parser("fit").dump(self.config.fit, skip_none=False, skip_validation=True))


def settings(*arguments: str) -> dict[str, Any]:
    with pytest.raises(Parsed) as parsed:
        run(OnlyParses, ["fit", *arguments], BASE)
    return yaml.safe_load(parsed.value.args[0])


def value(config: Any, key: str) -> Any:
    """The value of a dotted key without ``init_args``."""
    for part in key.split("."):
        if isinstance(config, list):
            config = config[int(part)]
        else:
            config = config[part] if part in config else config["init_args"][part]
    return config


RIGHT = [
    ("--model.kl.beta.math=0", "model.kl.beta.math", 0.0),
    ("--model.sampling.group_size=4", "model.sampling.group_size", 4),
    ("--model.sampling={temperature: 0.7}", "model.sampling.temperature", 0.7),
    ("--model.optimizer.lr=1e-4", "model.optimizer.lr", 1e-4),
    ("--model.policy=Qwen/Qwen2.5-0.5B-Instruct", "model.policy", "Qwen/Qwen2.5-0.5B-Instruct"),
    ("--model.adapter.rank=8", "model.adapter.rank", 8),
    ("--model.engine.batch_rows=64", "model.engine.batch_rows", 64),
    ("--model.max_grad_norm=0.5", "model.max_grad_norm", 0.5),
    ("--data.batch_size=4", "data.batch_size", 4),
    ("--data.tasks.code.sandbox.timeout=5", "data.tasks.code.sandbox.timeout", 5.0),
    ("--data.tasks.math.format_weight=0.2", "data.tasks.math.format_weight", 0.2),
    ("--data.task_sampler=UniformSampler", "data.task_sampler.class_path", "omnithink_pl.data.samplers.UniformSampler"),
    ("--curriculum.steps=10", "curriculum.steps", 10),
    ("--curriculum.stages.0.steps=7", "curriculum.stages.0.steps", 7),
    ("--curriculum.stages[1].steps=8", "curriculum.stages.1.steps", 8),
    ("--curriculum.stages.3=null", "curriculum.stages.2.tasks.qa", 1.0),
    ("--evaluation.evaluator.prompts=16", "evaluation.evaluator.prompts", 16),
    ("--validation.every_n_steps=5", "validation.every_n_steps", 5),
    ("--learning_rate.warmup_steps=5", "learning_rate.warmup_steps", 5),
    ("--seed_everything=3", "seed_everything", 3),
    ("--name=mine", "name", "mine"),
    ("--trainer.devices=2", "trainer.devices", "2"),
    ("--trainer.logger.experiment_name=mine", "trainer.logger.experiment_name", "mine"),
]


@pytest.fixture(scope="module")
def all_of_them() -> dict[str, Any]:
    return settings(*(argument for argument, _, _ in RIGHT))


@pytest.mark.parametrize(("argument", "key", "expected"), RIGHT)
def test_an_override_has_its_result(argument: str, key: str, expected: Any, all_of_them: dict[str, Any]) -> None:
    assert value(all_of_them, key) == expected, argument


LENGTH = r"a run is as long as its stages; set curriculum\.steps"


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ("fit --trainer.max_steps=10", LENGTH),
        ("fit --trainer.max_epochs=3", LENGTH),
        ("fit --trainer.limit_train_batches=1", LENGTH),
        ("fit --trainer.limit_val_batches=2", r"evaluation\.evaluator\.prompts is the number of prompts"),
        ("fit --trainer.gradient_clip_val=1", r"set model\.max_grad_norm"),
        ("fit --trainer.accumulate_grad_batches=4", r"data\.batch_size is the prompts of an update"),
        ("fit --trainer={enable_checkpointing: true}", r"checkpoints\.every_n_steps"),
        ("fit --config={trainer: {log_every_n_steps: 50}}", r"progress\.every_n_steps"),
        ("predict --trainer.limit_predict_batches=2", r"data\.sampled_prompts"),
        ("validate --evaluation.evaluator.prompts=16", r"no effect on validate; it measures all prompts"),
        ("fit --data.tasks.mth.x=1", r"there is no task 'mth'; did you mean data\.tasks\.math\?"),
        ("fit --data.tasks.poetry.source.path=x", r"a new one needs a class: --data\.tasks\.poetry=omnithink_pl"),
        ("fit --model.kl.beta.mth=0", r"did you mean model\.kl\.beta\.math\?"),
        ("fit --curriculum.steps={reading: 5}", r"choose from code, math, qa, writing"),
        ("fit --data.seed=3", r"set seed_everything instead"),
        ("fit --config=scale/lra", r"no file 'scale/lra'; did you mean scale/lora\?"),
        ("ft --data.batch_size=4", r"'ft' is no verb; did you mean fit"),
        ("fit --model.policy=./no/such/policy", r"model\.policy: no directory './no/such/policy'; give a directory"),
        ("budget --model.policy=./no/such/policy", r"model\.policy: no directory './no/such/policy'; give a directory"),
        ("fit --model.policy=nobody/nothing", r"cannot be had from the hub .*--model\.policy=DIR"),
        ("fit --curriculum.steps=0", r"curriculum\.steps is 0; use 1 or more"),
        ("fit --curriculum.steps.math=-1", r"curriculum\.steps\.math is -1; use 1 or more"),
        ("fit --curriculum.stages=[]", r"curriculum\.stages is empty; give at least one stage such as"),
        ("fit --model.kl.beta.qa=-1", r"model\.kl\.beta\.qa is -1\.0; use 0 \(no penalty\) or more"),
        ("fit --seed_everything=-1", r"seed_everything: -1 is not in bounds, .* from 0 to"),
        ("fit --seed_everything=true", r"seed_everything is a number, such as seed_everything=1"),
        (
            "fit --curriculum.stages=[math, code]",
            r"stages\.0: a stage is \{tasks: \{math: 1\}\}, and ",
        ),
        ("fit --ckpt_path=nothing.ckpt", r"--ckpt_path: no file 'nothing\.ckpt'; give a checkpoint's path, or 'last'"),
        ("fit --name=", r"name is empty; it names runs and their folder, such as --name=mine"),
        ("fit --torch_threads=0", r"torch_threads is 0; use 1 or more, or null"),
        ("fit --trainer.accelerator=tpu", r"^trainer: .*torch_xla"),
        ("fit --trainer.strategy=ddpp --trainer.logger=false", r"trainer: You selected an invalid strategy"),
    ],
)
def test_an_override_without_effect_is_refused_with_the_cure(arguments: str, cure: str) -> None:
    verb, *given = re.split(r" (?=--)", arguments)
    with pytest.raises(OmniThinkError, match=cure) as refused:
        main([verb, *given])
    assert str(refused.value).count("\n") < 3


@pytest.mark.parametrize(
    ("argument", "cure"),
    [
        ("--lr=1e-4", r"did you mean model\.optimizer\.lr\?"),
        ("--learning_rate=1e-4", r"did you mean model\.optimizer\.lr\?"),
        ("--batch_size=4", r"did you mean data\.batch_size\?"),
        ("--batch=4", r"did you mean data\.batch_size\?"),
        ("--evaluation.prompts=16", r"did you mean evaluation\.evaluator\.prompts\?"),
        ("--adapter.rank=8", r"did you mean model\.adapter\.rank\?"),
        ("--model.sampling.group_size=four", r"model\.sampling\.group_size: Expected a int\. Got value: four"),
        ("--model.optimizer.lrr=1", r"model\.optimizer: Option 'lrr' is not accepted; did you mean lr\?$"),
        ("--model.engine=TransformersEngin", r"write omnithink_pl\.rollout\.transformers\.TransformersEngine"),
        ("--model.engine=omnithink_pl.rollout.VLLM", r"write omnithink_pl\.rollout\.vllm\.\w+\.\w*VLLM"),
        ("--model=GRPO", r"write omnithink_pl\.modules\.mt_grpo\.MultiTaskGRPO$"),
        ("--model.optimizer=Lion", r"Lion; write its whole path, such as my_package\.MyClass$"),
        ("--data.tasks.writing.judge=OpenAIJudge", r"write omnithink_pl\.judge\.endpoint\.OpenAIJudge"),
        ("--data.tasks.code.sandbox.timeot=5", r"data\.tasks\.code\.sandbox: .*; did you mean timeout\?"),
        ("--data.tasks.gsm8k=omnithink_pl.tasks.Math", r"data\.tasks\.gsm8k: Option 'source' is required"),
        ("--curriculum.stages.9.steps=10", r"curriculum\.stages\.9: there are 4 elements, counted from 0"),
        (
            "--data.tasks.math.source.path=rows.jsonl",
            r"such as --data\.tasks\.math\.source=omnithink_pl\.sources\.Table",
        ),
        ("--data.tasks.math.judge=3", r"data\.tasks\.math: .*; its class has source, .*format_weight"),
        (
            "--data.pass_rates=outputs/rates",
            r"data\.pass_rates: .*; it has settings of its own: give one of them, as KEY\.",
        ),
        ("--evaluation.evaluator=0.5", r"evaluation\.evaluator: .*; it has settings of its own: give one of them"),
        ("--model.adapter=true", r"model\.adapter: .*; it is no switch: give one of its settings, as KEY\.NAME=VALUE"),
        ("--data.tasks=null", r"Option 'data\.tasks' is required; give it, not null: --data\.tasks=VALUE"),
        ("--model.engine=null", r"model: Option 'engine' is required; give it, not null: --model\.engine=VALUE"),
        ("--model.optimizer.lr=abc", r"model\.optimizer\.lr: Expected a float$"),
        ("--model.kl=null", r"model\.kl: .* takes no value; give one of them: --model\.kl\.NAME=VALUE"),
        ("--model.sampling.group_size=null", r"model\.sampling\.group_size: Expected a int\. Got value: None"),
        ("--curriculum.stages=null", r"curriculum\.stages: Expected a list\. Got value: None"),
        ("--trainer.precision=fp16", r"trainer\.precision: .*'bf16-mixed'.*; the value is fp16"),
    ],
)
def test_a_mistyped_override_is_answered_with_the_cure(
    argument: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(OnlyParses, ["fit", argument], BASE)
    assert re.search(cure, error := capsys.readouterr().err, re.MULTILINE), error
    assert error.count("\n") <= 3


@pytest.mark.parametrize(
    ("config", "cure"),
    [
        (b"", r"mine\.yaml is empty; a config has settings by key, such as `name: mine`"),
        (b"# nothing but a comment", r"mine\.yaml is empty"),
        (b"- a\n- b", r"mine\.yaml holds no keys"),
        (b"name: a\n\tmodel: b", r"mine\.yaml, line 2 is no YAML: .*; mend it"),
        (b"# at home\nname: z\xfcrich", r"mine\.yaml, line 2: byte 0xfc is not UTF-8; save it as UTF-8"),
        (b"model: {policy: a}\nname: b\nmodel: {}", r"line 3: model is there already, in line 1; join the two"),
        (b"curriculum:\n  stages:\n  - {steps: 1, steps: 2}", r"line 3: curriculum\.stages\.0\.steps is there already"),
        (b"data:\n  tasks:\n    on: {}", r'line 3: YAML takes the key data\.tasks\.on for no text; quote it: "on"'),
        (b"model: {kl: {beta: {2024: 0.1}}}", r'the key model\.kl\.beta\.2024 for no text; quote it: "2024"'),
    ],
)
def test_a_config_whose_settings_would_be_lost_is_refused_with_file_and_line(
    config: bytes, cure: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_bytes(config)
    with pytest.raises(BadInput, match=cure):
        main(["fit", f"--config={tmp_path / 'mine.yaml'}"])


def test_keys_that_yaml_reads_as_written_are_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "base: &base {steps: 3}\nstages: {0: {<<: *base, tasks: {'2024': 1}}}\nother: {steps: 4}\n"
    )
    assert read_config(tmp_path / "mine.yaml")["stages"] == {0: {"steps": 3, "tasks": {"2024": 1}}}


def test_a_packaged_config_is_named_without_its_folder() -> None:
    given = ["fit", "--config=scale/lora", "--config", "curriculum", "--config={name: mine}", "--name=scale/lora"]
    assert with_paths(given, CONFIGS) == [
        "fit",
        f"--config={CONFIGS}/scale/lora.yaml",
        "--config",
        f"{CONFIGS}/curriculum.yaml",
        "--config={name: mine}",
        "--name=scale/lora",
    ]


def test_a_file_of_ones_own_goes_before_a_packaged_one(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "joint.yaml").write_text("name: mine")
    assert with_paths(["--config=joint.yaml"], CONFIGS) == ["--config=joint.yaml"]
    (tmp_path / "configs").mkdir()
    assert with_paths(["--config=configs/joint.yaml"], CONFIGS) == [f"--config={CONFIGS}/joint.yaml"]
    (tmp_path / "configs" / "joint.yaml").write_text("name: mine")
    assert with_paths(["--config=configs/joint.yaml"], CONFIGS) == ["--config=configs/joint.yaml"]
    with pytest.raises(BadInput, match=r"no file 'nothing\.yaml'; `main\.py configs ls` lists"):
        with_paths(["--config=nothing.yaml"], CONFIGS)
