"""Every config parses, composes with others, and what it resolves to is a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
import yaml
from datasets import Dataset
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from callbacks.command_line import CommandLine
from main import CONFIGS, main
from omnithink_pl.curriculum.stages import Stage, with_lengths
from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.overlays import as_configs, forget_defaults

FILES = {path.relative_to(CONFIGS).with_suffix("").as_posix(): path for path in sorted(CONFIGS.rglob("*.yaml"))}
STUDIES = [name for name in FILES if name.startswith("studies/")]
MERGES = [name for name in FILES if name.endswith("merge")]
RUNS = [name for name in FILES if name not in {*MERGES, "real/data", *STUDIES}]  # real/data is a part of its neighbours
REAL = ["real/smollm2", "real/qwen2.5-0.5b"]
OVERLAYS = [
    name for name in RUNS if name.startswith(("ablations/", "benchmarks/", "judge/", "paper/", "rollout/", "scale/"))
]
PREDICTS = ("sft_data", "paper/sft_data", "paper/own_answers_data", "real/cold_start_data", "real/pass_rates")
VERBS = dict.fromkeys(PREDICTS, "predict")  # others are configs of `fit`


@pytest.fixture(scope="module")
def parsers() -> dict[str, LightningArgumentParser]:
    """The parser of each verb: to build all of them for each config would take longer than to parse it."""

    class Built(Exception):
        pass

    class Parsers(CommandLine):
        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            raise Built(self._subcommand_parsers)

    found: dict[str, LightningArgumentParser] = {}
    for verb in ("fit", "predict"):
        with pytest.raises(Built) as built:
            Parsers([verb], CONFIGS / "base.yaml")
        found |= built.value.args[0]
    return found


def parsed(parsers: dict[str, LightningArgumentParser], *arguments: str, verb: str = "fit") -> Namespace:
    """The arguments, parsed; the name of a config stands for its file."""
    given = parsers[verb].parse_args([f"--config={FILES[one]}" if one in FILES else one for one in arguments])
    given.data.pop("__path__", None)  # of a file that another one names
    del given["config"]
    return given


def resolved(parsers: dict[str, LightningArgumentParser], *arguments: str, verb: str = "fit") -> dict[str, Any]:
    """What the arguments come to, as ``--print_config`` prints it."""
    given = parsed(parsers, *arguments, verb=verb)
    return yaml.safe_load(parsers[verb].dump(given, skip_none=False, skip_validation=True))


@pytest.fixture(scope="module")
def bases(parsers: dict[str, LightningArgumentParser]) -> Callable[[str], dict[str, Any]]:
    """Leaves of a base config, which is parsed once for all of its overlays."""
    return cache(lambda base: dict(leaves(resolved(parsers, base, verb=VERBS.get(base, "fit")))))


@pytest.mark.parametrize("name", RUNS)
def test_law_8_every_config_parses_and_its_printed_config_is_the_same_run(
    name: str, parsers: dict[str, LightningArgumentParser], tmp_path: Path
) -> None:
    verb = VERBS.get(name, "fit")
    printed = tmp_path / "printed.yaml"
    once = parsed(parsers, name, verb=verb)
    printed.write_text(parsers[verb].dump(once, skip_none=False, skip_validation=True))
    assert parsed(parsers, f"--config={printed}", verb=verb) == once
    if not name.startswith(("rollout/", "scale/qwen")):  # which need vLLM
        once.trainer.accelerator, once.trainer.devices, once.trainer.strategy = "cpu", 1, "auto"
        parsers[verb].instantiate_classes(once)


@pytest.mark.parametrize(("verb", "name"), [("merge", name) for name in MERGES] + [("study", name) for name in STUDIES])
def test_every_config_of_a_verb_without_a_trainer_parses(
    verb: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, f"--config={FILES[name]}", "--print_config"])
    assert ended.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out).keys() >= yaml.safe_load(FILES[name].read_text()).keys()


def leaves(config: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys without ``init_args``, and their values."""
    for name, value in config.items():
        inner = key if name == "init_args" else f"{key}.{name}".strip(".")
        if isinstance(value, dict) and value:
            yield from leaves(value, inner)
        else:
            yield inner, value


def names_module_keys(name: str) -> bool:
    return "model" in yaml.safe_load(FILES[name].read_text())


@pytest.mark.parametrize(
    ("base", "overlay"),
    [("scale/qwen2.5-7b", overlay) for overlay in OVERLAYS if overlay != "scale/qwen2.5-7b"]
    + [("sft", overlay) for overlay in OVERLAYS if not names_module_keys(overlay)],
)
def test_law_11_an_overlay_keeps_what_it_does_not_name(
    base: str,
    overlay: str,
    parsers: dict[str, LightningArgumentParser],
    bases: Callable[[str], dict[str, Any]],
) -> None:
    before = bases(base)
    after = dict(leaves(resolved(parsers, base, overlay, verb=VERBS.get(overlay, "fit"))))
    named = [key for key, _ in leaves(yaml.safe_load(FILES[overlay].read_text()))]
    # Another class takes its arguments along; a value that was null may now have parts.
    replaced = [key.removesuffix("class_path") for key in named if key.endswith(".class_path")]
    for key, value in before.items():
        if after.get(key) != value:
            assert key.startswith(tuple(replaced)) or any(f"{one}.".startswith(f"{key}.") for one in named), key


def test_law_11_of_files_and_arguments(parsers: dict[str, LightningArgumentParser], tmp_path: Path) -> None:
    """Each change, in a file and as arguments, changes what it names and nothing else."""
    base = dict(leaves(resolved(parsers)))
    math = "data.tasks.math"
    for change, expected in [
        ({"data": {"tasks": {"qa": {"format_weight": 0.3}}}}, {"data.tasks.qa.format_weight": 0.3}),
        ({"model": {"kl": {"beta": {"math": 0}}}}, {"model.kl.beta.math": 0.0}),
        ({"model": {"kl": {"beta": 0.2}}}, {"model.kl.beta": 0.2} | removed(base, "model.kl.beta.")),
        ({"model": {"kl": {"beta!": {"qa": 1}}}}, removed(base, "model.kl.beta.") | {"model.kl.beta.qa": 1.0}),
        ({"data": {"tasks": {"math": None}}}, removed(base, f"{math}.")),
        ({"data": {"batch_size": 4}}, {"data.batch_size": 4}),
        ({"curriculum": {"stages": {1: {"steps": 7}}}}, {"curriculum.stages": changed(base, 1, steps=7)}),
        ({"curriculum": {"stages": {3: None}}}, {"curriculum.stages": base["curriculum.stages"][:3]}),
        (
            {"curriculum": {"stages": {0: {"tasks": {"qa": 0.5}}}}},
            {"curriculum.stages": changed(base, 0, tasks={"code": 1.0, "qa": 0.5})},
        ),
    ]:
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(yaml.safe_dump(change))
        for given in ([f"--config={overlay}"], list(as_configs(arguments(change)))):
            got = dict(leaves(resolved(parsers, *given)))
            assert {key: got.get(key) for key in base.keys() | got if got.get(key) != base.get(key)} == expected, given


def test_an_entry_that_two_files_remove_is_gone(parsers: dict[str, LightningArgumentParser]) -> None:
    twice = ["--config={data: {tasks: {qa: null}}}"] * 2
    tasks = resolved(parsers, *twice)["data"]["tasks"]
    assert {task for task, settings in tasks.items() if settings is not None} == {"code", "math", "writing"}


JUDGE = "data.tasks.writing.judge"
LOGITS = "omnithink_pl.judge.logits.LogitJudge"


@pytest.mark.parametrize("judge", [f"{{class_path: {LOGITS}}}", LOGITS])
def test_another_class_has_its_own_defaults_and_keeps_what_was_set(
    judge: str, parsers: dict[str, LightningArgumentParser], tmp_path: Path
) -> None:
    writing = f"{{writing: {{class_path: omnithink_pl.tasks.Writing, init_args: {{judge: {judge}}}}}}}"
    (tmp_path / "data.yaml").write_text(f"tasks: {writing}")
    (tmp_path / "run.yaml").write_text("data: data.yaml")  # a file that another one names
    was_set = "--config={data: {tasks: {writing: {judge: {margin: 0.05}}}}}"
    for change in (
        f"--config={{data: {{tasks: {{writing: {{judge: {judge}}}}}}}}}",
        f"--config={{data: {{tasks: {writing}}}}}",
        f"--config={tmp_path}/run.yaml",
    ):
        got = dict(leaves(resolved(parsers, change)))
        assert (got[f"{JUDGE}.class_path"], got[f"{JUDGE}.margin"]) == (LOGITS, 0.0), change
        assert dict(leaves(resolved(parsers, was_set, change))) == got | {f"{JUDGE}.margin": 0.05}, change


def test_an_argument_that_names_a_class_is_as_a_config_that_does(parsers: dict[str, LightningArgumentParser]) -> None:
    sft = "omnithink_pl.modules.SupervisedFineTuning"
    base = ["--model.policy=/models/mine", "--model.max_grad_norm=0.5"]
    for given, config in [
        (f"--{JUDGE}={LOGITS}", f"{{data: {{tasks: {{writing: {{judge: {LOGITS}}}}}}}}}"),
        (f"--{JUDGE}.class_path={LOGITS}", f"{{data: {{tasks: {{writing: {{judge: {LOGITS}}}}}}}}}"),
        (f"--model={sft}", f"{{model: {sft}}}"),
    ]:
        got = dict(leaves(resolved(parsers, *as_configs([*base, given]))))
        assert got == dict(leaves(resolved(parsers, *base, f"--config={config}")))
        two_words = given.split("=")
        assert list(as_configs([*base, *two_words, "--name=a"])) == list(as_configs([*base, given, "--name=a"]))
        assert (got["model.policy"], got["model.max_grad_norm"]) == ("/models/mine", 0.5), "common to both modules"


def test_classes_in_a_list_have_their_own_defaults_too() -> None:
    embedded = "omnithink_pl.judge.embedded.EmbeddedJudge"
    previous = Namespace(judges=[Namespace(class_path=embedded, init_args=Namespace(margin=m)) for m in (0.03, 0.1)])
    forget_defaults({"judges": [LOGITS, {"class_path": LOGITS}]}, previous)
    assert [one.init_args.as_dict() for one in previous.judges] == [{}, {"margin": 0.1}]


def removed(base: Mapping[str, Any], prefix: str) -> dict[str, None]:
    return {key: None for key in base if key.startswith(prefix)}


def changed(base: Mapping[str, Any], number: int, **values: Any) -> list[dict[str, Any]]:
    return [stage | (values if at == number else {}) for at, stage in enumerate(base["curriculum.stages"])]


def arguments(change: Mapping[Any, Any], key: str = "--") -> Iterator[str]:
    """One argument for each leaf."""
    for name, value in change.items():
        if isinstance(value, dict) and not str(name).endswith("!"):
            yield from arguments(value, f"{key}{name}.")
        else:
            yield f"{key}{name}={json.dumps(value)}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "{data: {tasks: {mth: {format_weight: 1}}}}",
            r"data\.tasks\.mth is new and has no class_path; did you mean",
        ),
        ("{curriculum: {stages: {4: {steps: 1}}}}", r"curriculum\.stages\.4: there are 4 elements, counted from 0"),
        ("{model: {sampling!: {group_size: 1}}}", r"model\.sampling!: only a dictionary whose keys are data"),
        ("{model: {samplng: {group_size: 4}}}", r"did you mean sampling\.group_size\?"),
        ("{curiculum: {stages: []}}", r"did you mean curriculum\.stages\?"),
        ("{data: {tasks: {math: {format_weigth: 1}}}}", r"did you mean format_weight\?"),
        ("{data: {tasks: {writing: {judge: OpenAIJudge}}}}", r"write omnithink_pl\.judge\.endpoint\.OpenAIJudge"),
    ],
)
def test_a_typo_is_answered_with_the_cure(
    given: str, message: str, parsers: dict[str, LightningArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(parsers, f"--config={given}")
    assert re.search(message, error := capsys.readouterr().err), error
    assert error.count("\n") <= 3


def test_overrides_change_one_key_and_leave_its_neighbours(parsers: dict[str, LightningArgumentParser]) -> None:
    got = resolved(parsers, "--model.kl.beta.math=0")["model"]["init_args"]["kl"]
    assert got["beta"] == {"code": 0.01, "math": 0.0, "qa": 0.01, "writing": 0.01}


def test_the_orders_differ_in_their_stages_only(parsers: dict[str, LightningArgumentParser]) -> None:
    def without_stages(name: str) -> tuple[dict[str, Any], list[Any]]:
        got = resolved(parsers, name)
        del got["name"]
        return got, got.pop("curriculum")["stages"]

    base, stages = without_stages("curriculum")
    assert not any(stage["steps"] for stage in stages), "each is as long as curriculum.steps says"
    assert [list(stage["tasks"]) for stage in stages] == [["code"], ["math"], ["qa"], ["writing"]]
    for name in ("reverse", "joint", "single_code", "single_math", "single_qa", "single_writing"):
        assert without_stages(name)[0] == base
    assert without_stages("reverse")[1] == stages[::-1]
    assert [list(stage["tasks"]) for stage in without_stages("joint")[1]] == [["code", "math", "qa", "writing"]]


SINGLE = [f"single_{task}" for task in ("code", "math", "qa", "writing")]


REAL_ORDERS = {"curriculum": [100] * 4, "reverse": [100] * 4, "joint": [400], "single_math": [100]}


@pytest.mark.parametrize("real", REAL)
@pytest.mark.parametrize("order", REAL_ORDERS)
@pytest.mark.parametrize("first", [True, False])
def test_the_orders_have_a_real_models_lengths(
    real: str, order: str, first: bool, parsers: dict[str, LightningArgumentParser]
) -> None:
    got = parsed(parsers, *((order, real) if first else (real, order)))
    plan = with_lengths([Stage(dict(one.tasks), one.steps) for one in got.curriculum.stages], got.curriculum.steps)
    assert [stage.steps for stage in plan] == REAL_ORDERS[order]
    assert [stage.tasks for stage in plan] == [
        stage["tasks"] for stage in resolved(parsers, order)["curriculum"]["stages"]
    ]


BIG = "scale/qwen2.5-7b"
LENGTHS = {"curriculum": [380, 375, 172, 208], "reverse": [208, 172, 375, 380], "joint": [1135], "paper/joint": [1135]}
LENGTHS |= {name: [steps] for name, steps in zip(SINGLE, (380, 375, 172, 208), strict=True)}


@pytest.mark.parametrize(
    ("files", "lengths"),
    [((BIG, name), lengths) for name, lengths in LENGTHS.items()]
    + [((name, BIG), LENGTHS[name]) for name in ("reverse", "joint", "single_qa")]
    + [((BIG, "paper/sft"), [1135])],
    ids=lambda value: " ".join(map(str, value)),
)
def test_the_stages_of_every_method_follow_the_papers_size(
    files: tuple[str, str], lengths: list[int], parsers: dict[str, LightningArgumentParser]
) -> None:
    got = parsed(parsers, *files)
    plan = with_lengths([Stage(dict(one.tasks), one.steps) for one in got.curriculum.stages], got.curriculum.steps)
    assert [stage.steps for stage in plan] == lengths
    assert got.model.init_args.policy == "Qwen/Qwen2.5-7B-Instruct"


def test_the_papers_benchmarks_are_those_of_its_table(parsers: dict[str, LightningArgumentParser]) -> None:
    benchmarks = resolved(parsers, "benchmarks/paper")["data"]["benchmarks"]
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
    samples = {"aime24": 5, "amc23": 5, "livecodebench": 10, "mt_bench": 3}  # what the paper's decimals fit
    assert {name: one["samples"] for name, one in benchmarks.items() if one["samples"] > 1} == samples


@pytest.mark.parametrize("name", REAL)
def test_one_key_names_the_local_copy_of_a_source_or_a_model(
    name: str, parsers: dict[str, LightningArgumentParser]
) -> None:
    before = dict(leaves(resolved(parsers, name)))
    tasks = ("code", "math", "qa", "writing")
    keys = {f"data.tasks.{task}.init_args.source.init_args.path": f"/data/{task}.jsonl" for task in tasks}
    keys["model.policy"] = "/models/mine"
    after = dict(leaves(resolved(parsers, name, *(f"--{key}={value}" for key, value in keys.items()))))
    changed = {key.replace(".init_args", ""): value for key, value in keys.items()}
    assert {key: value for key, value in after.items() if before.get(key) != value} == changed
    assert before.keys() == after.keys()


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("overlay", "module"),
    [
        ("real/cold_start_data", "RejectionSampling"),
        ("real/pass_rates", "RejectionSampling"),
        ("real/cold_start", "SupervisedFineTuning"),
    ],
)
def test_what_stands_before_a_run_takes_policy_lengths_and_tasks_from_the_run_that_it_is_for(
    name: str, overlay: str, module: str, parsers: dict[str, LightningArgumentParser]
) -> None:
    verb = VERBS.get(overlay, "fit")
    base, cold = resolved(parsers, name), resolved(parsers, name, overlay, verb=verb)
    assert cold["model"]["class_path"].rpartition(".")[2] == module
    assert cold["model"]["init_args"]["policy"] == base["model"]["init_args"]["policy"]
    assert cold["data"]["tasks"] == base["data"]["tasks"]
    trained = [task for stage in cold["curriculum"]["stages"] for task in stage["tasks"]]
    assert trained == list(base["data"]["tasks"])
    if module == "RejectionSampling":
        assert (
            cold["model"]["init_args"]["sampling"]["max_tokens"] == base["model"]["init_args"]["sampling"]["max_tokens"]
        )
    else:
        assert cold["data"]["demonstrations"] == resolved_output(parsers)


def test_what_asks_for_the_help_of_a_class_is_left_as_it_is() -> None:
    asked = ["--model.optimizer.help=torch.optim.AdamW", "--model.help", "omnithink_pl.modules.MultiTaskGRPO"]
    assert list(as_configs(asked)) == asked


COMMANDS = """#!/usr/bin/env bash
printf '%s\\n' "$@" >> "$CALLS/$(ls "$CALLS" | wc -l)"
case "$*" in
    *output=*) last=${*: -1}; mkdir -p "${last#*=}/dataset" ;;
    *name=cold_start*) mkdir -p outputs/smollm2/cold_start/latest/policy ;;
    *name=curriculum*) mkdir -p outputs/smollm2/curriculum/1; touch outputs/smollm2/curriculum/1/last.ckpt; exit 143 ;;
esac
"""


def test_one_command_runs_what_stands_before_a_real_run_and_the_run_and_goes_on_where_it_was(
    parsers: dict[str, LightningArgumentParser], tmp_path: Path
) -> None:
    calls, python = tmp_path / "calls", tmp_path / "python"
    calls.mkdir()
    python.write_text(COMMANDS)
    python.chmod(0o755)
    environment = os.environ | {"CALLS": str(calls), "PYTHON": str(python)}
    given = ["--model.policy=/models/base", f"--config={FILES['ablations/dynamic_sampling']}"]

    def call(*arguments: str) -> int:
        command = [CONFIGS.parent / "scripts" / "real.sh", "smollm2", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, stdout=DEVNULL, stderr=DEVNULL).returncode

    assert [call(*given), call(*given), call("--model.policy=/models/other")] == [143, 143, 2]
    assert call("--model.policy", "/models/base") == 2, "by which the judge would not be known"
    made = [calls.joinpath(str(number)).read_text().splitlines() for number in range(len(list(calls.iterdir())))]
    verbs = [one[1] for one in made]
    assert verbs == ["predict", "fit", "predict", "fit", "fit"]
    runs = [resolved(parsers, *one[2:], verb=verb) for one, verb in zip(made, verbs, strict=True)]
    data, cold, rates, curriculum = runs[:4]
    assert [run["model"]["init_args"]["policy"] for run in runs] == [
        *["/models/base"] * 2,
        *["outputs/smollm2/cold_start/latest/policy"] * 3,
    ]
    judges = [run["data"]["tasks"]["writing"]["init_args"]["judge"]["init_args"]["model"] for run in runs]
    assert [judge or "/models/base" for judge in judges] == ["/models/base"] * 5, "null is the policy's base"
    assert cold["data"]["demonstrations"] == data["demonstrations"]["output"]
    assert curriculum["data"]["pass_rates"]["path"] == rates["demonstrations"]["output"]
    assert curriculum["model"]["init_args"]["advantage"]["phantom_guard"], "what is given counts for the run"
    assert cold["learning_rate"]["decay"] == "none", "as it was measured"
    assert (curriculum["ckpt_path"], runs[4]["ckpt_path"]) == (None, "last")
    assert runs[4] | {"ckpt_path": None} == curriculum


def resolved_output(parsers: dict[str, LightningArgumentParser]) -> str:
    return str(resolved(parsers, "real/cold_start_data", verb="predict")["demonstrations"]["output"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rollout/vllm", "vLLM is not installed; run `make setup-vllm`"),
        (
            "rollout/vllm_server",
            r"no answer from the vLLM server .*start it with `python -m omnithink_pl",
        ),
    ],
)
def test_a_config_of_vllm_says_when_used_what_is_missing(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("omnithink_pl.rollout.vllm.process.find_spec", lambda name: None)
    own = ["--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu"]
    address = ["--model.engine.init_args.url=http://127.0.0.1:1"] if name.endswith("server") else []
    with pytest.raises((BadInput, EngineFailure), match=message):
        main(["fit", f"--config={FILES[name]}", *own, *address])


# One config for each module that `fit` trains; tests/callbacks/test_demonstrations.py runs `predict`.
@pytest.mark.parametrize("name", ["curriculum", "sft"])
def test_law_8_a_printed_config_runs(name: str, parsers: dict[str, LightningArgumentParser], tmp_path: Path) -> None:
    printed = tmp_path / "printed.yaml"
    printed.write_text(yaml.safe_dump(resolved(parsers, name)))
    if name == "sft":
        rows = [
            {"task": task, "messages": [{"role": "user", "content": "add"}], "completion": "<answer>2</answer>"}
            for task in ("code", "math", "qa", "writing")
        ]
        Dataset.from_list(rows).save_to_disk(tmp_path / "rows")
        needed = [f"--data.demonstrations={tmp_path}/rows"]
    else:
        needed = ["--model.sampling.group_size=2"]
    small = ["--evaluation.evaluator.prompts=2", "--evaluation.evaluator.samples=1", "--data.batch_size=4", *needed]
    cli = main(
        ["fit", f"--config={printed}", "--trainer.fast_dev_run=1", f"--trainer.default_root_dir={tmp_path}", *small]
    )
    assert cli is not None
    assert cli.model.steps_done == len(cli.config.fit.curriculum.stages), "one of each stage"
