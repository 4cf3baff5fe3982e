from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from main import CONFIGS
from omnithink_pl.errors import BadInput
from omnithink_pl.study.definition import Definition, Run, select_jobs

RUNS = {
    "ties": Run(["--config={merged}/policy"], "validate"),
    "merged": Run(["--models=[{one}/policy, {two}/policy]", "--output={folder}"], "merge"),
    "one": Run(["--curriculum.stages=[{tasks: {math: 1}, steps: 5}]"]),
    "two": Run(["--salt={seed}"]),
}


def definition(runs: dict[str, Run] = RUNS, **arguments: list[str]) -> Definition:
    return Definition("s", runs, [0, 7], arguments, Path("out"))


def test_a_run_stands_behind_what_it_needs_seed_by_seed() -> None:
    jobs = definition().jobs()
    assert [job.key for job in jobs] == [f"{run}/{seed}" for seed in (0, 7) for run in ("one", "two", "merged", "ties")]
    assert [job.needs for job in jobs[:4]] == [(), (), ("one/0", "two/0"), ("merged/0",)]


def test_places_are_filled_in_and_yaml_is_left_alone() -> None:
    jobs = {job.key: job for job in definition().jobs()}
    one, two = jobs["one/7"].folder, jobs["two/7"].folder
    merged = jobs["merged/7"]
    assert merged.arguments == (f"--models=[{one}/policy, {two}/policy]", f"--output={merged.folder}")
    assert jobs["one/7"].arguments == tuple(RUNS["one"].arguments)
    assert jobs["two/7"].arguments == ("--salt=7",)
    # Arguments of the study come last.
    assert definition({"a": Run(["--x=1"])}, fit=["--x=2"], merge=["--y=3"]).jobs()[0].arguments == ("--x=1", "--x=2")


def test_a_fit_gets_its_place_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    job = Definition("s", {"a": Run([])}, [3], {}, tmp_path).jobs()[0]
    fresh = job.command("sqlite:///m.db", "e")
    assert fresh[0] == "fit"
    assert {"--seed_everything=3", "--name=a", f"--trainer.default_root_dir={tmp_path}/s/seed_3"} < set(fresh)
    assert f"--checkpoints.folder={job.folder.name}" in fresh
    assert job.folder.parent == tmp_path / "s" / "seed_3" / "a"  # where Checkpoints puts a run of this name
    job.folder.mkdir(parents=True)
    (job.folder / "last.ckpt").touch()
    assert job.command("sqlite:///m.db", "e") == [*fresh, f"--ckpt_path={job.folder}/last.ckpt"]


def test_a_changed_run_and_all_that_need_it_are_other_runs() -> None:
    def prints(runs: dict[str, Run]) -> dict[str, str]:
        return {job.run: job.fingerprint for job in definition(runs).jobs()}

    before, after = prints(RUNS), prints({**RUNS, "one": Run(["--lr=2"])})
    assert {name for name in before if before[name] != after[name]} == {"one", "merged", "ties"}


@pytest.mark.parametrize("form", [["--config={}"], ["--config", "{}"]])
def test_a_config_counts_by_what_it_says_not_by_how(form: list[str], tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"

    def fingerprint(text: str) -> str:
        config.write_text(text)
        return definition({"a": Run([part.format(config) for part in form])}).jobs()[0].fingerprint

    first = fingerprint("model: {lr: 1}")
    assert fingerprint("# the same\nmodel:\n  lr: 1\n") == first
    assert fingerprint("model: {lr: 2}") != first


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"a": Run(["{b}/policy"])}, r"runs\.a\.arguments: \{b\} is no run of this study"),
        ({"a": Run(["{b}"]), "b": Run(["{a}"])}, r"need each other; break the cycle"),
        ({"a": Run(["--config=no/such.yaml"])}, r"runs\.a\.arguments: cannot read the config no/such\.yaml"),
        ({"a b": Run([])}, r"'a b' is no name for a study or run"),
        ({"seed": Run([])}, r"\{seed\} has a meaning of its own"),
        ({}, r"runs is empty"),
    ],
)
def test_a_study_that_cannot_be_carried_out_is_refused(runs: dict[str, Run], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        definition(runs).jobs()
    with pytest.raises(BadInput, match="names one twice"):
        Definition("s", {"a": Run([])}, [1, 1], {}, Path("out"))


def test_runs_are_chosen_by_name_and_by_seed() -> None:
    jobs = definition().jobs()
    assert [job.key for job in select_jobs(jobs, ["one", "two/7"])] == ["one/0", "one/7", "two/7"]
    assert select_jobs(jobs, None) == jobs
    with pytest.raises(BadInput, match="'three' is no run of this study"):
        select_jobs(jobs, ["three"])


def test_the_description_is_plain_and_names_methods() -> None:
    about = definition({"single_qa": Run([], paper="single_qa"), "t": Run([], "merge", "TIES merging")}).describe()
    assert yaml.safe_load(yaml.safe_dump(about)) == about
    assert about["seeds"] == [0, 7]
    assert [run["method"] for run in about["runs"].values()] == ["single qa", "TIES merging"]


@pytest.mark.parametrize("path", sorted((CONFIGS / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_that_is_shipped_can_be_carried_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    settings = yaml.safe_load(path.read_text())
    runs = {name: Run(**about) for name, about in settings["runs"].items()}
    study = Definition(settings["name"], runs, settings["seeds"], settings.get("arguments", {}), Path("out"))
    assert len(study.jobs()) == len(runs) * len(settings["seeds"])
