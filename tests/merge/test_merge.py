"""``main.py merge``: from model directories to a model directory that loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from main import main
from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import load_policy, policy_path
from tests.merge.test_ties import plain_threshold

EMBEDDED = Path(policy_path("embedded"))


def tuned(directory: Path, seed: int, **saving: object) -> Path:
    """The embedded policy, changed a little everywhere."""
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(directory, **saving)
    return directory


def merge(*arguments: object) -> None:
    main(["merge", *map(str, arguments)])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One whole, one in shards, one below a run's folder, of which it is the newest."""
    directory = tmp_path_factory.mktemp("models")
    one, two = tuned(directory / "one", 1), tuned(directory / "two", 2, max_shard_size="500KB")
    assert len(list(two.glob("*.safetensors"))) > 2
    tuned(directory / "kind" / "20250101-000000" / "policy", 3)
    return [one, two, directory / "kind"]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return {name: value for part in path.glob("*.safetensors") for name, value in load_file(part).items()}


def whole_vector(model: dict[str, torch.Tensor]) -> torch.Tensor:
    base = weights(EMBEDDED)
    return torch.cat([(model[name].float() - base[name].float()).flatten() for name in sorted(base)])


def expected(paths: list[Path], density: float) -> torch.Tensor:
    """The paper's TIES on whole vectors."""
    vectors = torch.stack([whole_vector(weights(path)) for path in paths])
    for vector in vectors:
        vector[vector.abs() < plain_threshold(vector.tolist(), density)] = 0.0
    agreeing = (vectors.sign() == vectors.sum(0).sign()) & (vectors != 0)
    return (vectors * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)


def test_full_models_are_merged_into_one_that_loads(models: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "merged"
    merge("--models", json.dumps(list(map(str, models))), "--output", output, "--shard_gb=5e-4")
    assert (output / "model.safetensors.index.json").is_file()
    last = models[2] / "20250101-000000" / "policy"
    got = whole_vector(weights(output))
    want = expected([*models[:2], last], 0.2)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
    policy = load_policy(str(output))
    assert policy.model.lm_head.weight is policy.model.model.embed_tokens.weight
    assert policy.tokenizer.chat_template == AutoTokenizer.from_pretrained(EMBEDDED).chat_template
    described = json.loads((output / "merge.json").read_text())
    assert described["models"] == [*map(str, models[:2]), str(last)]
    assert described["kept"] == pytest.approx([0.2, 0.2, 0.2], abs=1e-3)


def test_a_model_merged_with_itself_is_its_own_largest_changes(models: list[Path], tmp_path: Path) -> None:
    merge(f"--models=[{models[0]}, {models[0]}]", f"--output={tmp_path}/out", "--density=1")
    for name, value in weights(models[0]).items():
        torch.testing.assert_close(weights(tmp_path / "out")[name], value, atol=1e-6, rtol=0)


def test_a_tied_tensor_that_one_writer_kept_changes_nothing(models: list[Path], tmp_path: Path) -> None:
    kept = shutil.copytree(models[0], tmp_path / "kept")
    content = load_file(kept / "model.safetensors")
    content["lm_head.weight"] = content["model.embed_tokens.weight"].clone()
    save_file(content, kept / "model.safetensors", metadata={"format": "pt"})
    for name, first in (("plain", models[0]), ("tied", kept)):
        merge(f"--models=[{first}, {models[1]}]", f"--output={tmp_path / name}")
    plain, tied = weights(tmp_path / "plain"), weights(tmp_path / "tied")
    assert plain.keys() == tied.keys()
    assert all(torch.equal(plain[name], tied[name]) for name in plain)


def altered(model: Path, directory: Path, change: str) -> Path:
    copy = shutil.copytree(model, directory / change)
    content = load_file(copy / "model.safetensors")
    if change == "shape":
        content["model.norm.weight"] = content["model.norm.weight"][:-1].clone()
    elif change == "missing":
        del content["model.norm.weight"]
    elif change == "diverged":
        content["model.norm.weight"][3] = torch.nan
    elif change == "heads":
        config = json.loads((copy / "config.json").read_text()) | {"num_attention_heads": 2}
        (copy / "config.json").write_text(json.dumps(config))
    save_file(content, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"shape was not trained from .*: model\.norm\.weight has the shape \(127,\) instead of \(128,\)"),
        ("missing", r"missing was not trained from .*: it lacks the tensor model\.norm\.weight"),
        ("heads", r"heads was not trained from .*: num_attention_heads is 2 instead of 4"),
        ("diverged", r"diverged: a value is not finite; its training has diverged, leave it out"),
    ],
)
def test_models_that_do_not_belong_together_are_named(
    change: str, message: str, models: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        merge(f"--models=[{models[0]}, {altered(models[0], tmp_path, change)}]", f"--output={tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_the_store_names_the_policy_in_its_folder_or_among_its_artifacts(
    models: list[Path], tmp_path: Path, tracking_uri: str
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment = client.create_experiment("here", (tmp_path / "artifacts").as_uri())

    def run(**tags: object) -> str:
        made = client.create_run(experiment, tags={key: str(value) for key, value in tags.items()}).info.run_id
        client.set_terminated(made)
        return str(made)

    here, away, none = run(folder=models[2] / "20250101-000000"), run(folder=tmp_path / "gone"), run()
    client.log_artifacts(away, str(models[1]), "best/1_math")
    merge(f"--models=[{here}, runs:/{away}/best/1_math]", f"--output={tmp_path}/out", f"--tracking_uri={tracking_uri}")
    want = expected([models[2] / "20250101-000000" / "policy", models[1]], 0.2)
    torch.testing.assert_close(whole_vector(weights(tmp_path / "out")), want, atol=1e-6, rtol=0)
    for name, message in [
        (
            away,
            rf"run {away} has no 'policy': there is none in {tmp_path}/gone, .* copy it here and give its directory",
        ),
        (none, r"has no 'policy': it names no folder, .* give the policy's directory instead"),
        (f"runs:/{'0' * 32}", rf"no run {'0' * 32} at {tracking_uri}; name the store"),
    ]:
        with pytest.raises(BadInput, match=message):
            merge(f"--models=[{name}, {models[0]}]", f"--output={tmp_path}/no", f"--tracking_uri={tracking_uri}")


def test_settings_that_cannot_be_used_are_named(models: list[Path], tmp_path: Path) -> None:
    both = f"--models=[{models[0]}, {models[1]}]"
    for arguments, message in [
        ((f"--models=[{models[0]}]", "--output=x"), "models has 1 entries; a merge takes two or more"),
        ((both, "--output=x", "--density=0"), r"density is 0\.0; it is a share"),
        ((both, f"--output={tmp_path}"), r"exists; choose another, or pass --overwrite=true"),
        ((f"--models=[{tmp_path}, {models[1]}]", "--output=x"), "nor a finished run with a policy in it"),
        (("--models=[./nowhere, ./nowhere]", "--output=x"), r"no directory './nowhere'"),
        (("--models=[nobody/nothing, nobody/nothing]", "--output=x"), r"'nobody/nothing' is no directory here"),
    ]:
        with pytest.raises(BadInput, match=message):
            merge(*arguments)
