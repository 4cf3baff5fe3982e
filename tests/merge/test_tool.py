"""A merge goes from directories of models or adapters to a directory that loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.merge_utils import ties
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.merge import Merge
from omnithink_pl.merge.sameness import check_same, differences
from omnithink_pl.merge.weights import Weights
from omnithink_pl.model.policy import load_policy, policy_path
from tests.merge.test_ties import plain_threshold

EMBEDDED = Path(policy_path("embedded"))


def base() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)


def tuned(directory: Path, seed: int, **saving: object) -> Path:
    """The embedded policy, changed a little everywhere."""
    model = base()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(directory, **saving)
    return directory


def merge(models: list[Any], output: Path, **settings: Any) -> None:
    Merge([str(model) for model in models], str(output), **settings).run()


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
    before = weights(EMBEDDED)
    return torch.cat([(model[name].float() - before[name].float()).flatten() for name in sorted(before)])


def expected(paths: list[Path], density: float) -> torch.Tensor:
    """The paper's TIES on whole vectors."""
    vectors = torch.stack([whole_vector(weights(path)) for path in paths])
    for vector in vectors:
        vector[vector.abs() < plain_threshold(vector.tolist(), density)] = 0.0
    agreeing = (vectors.sign() == vectors.sum(0).sign()) & (vectors != 0)
    return (vectors * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)


def test_full_models_are_merged_into_one_that_loads(models: list[Path], tmp_path: Path) -> None:
    output, last = tmp_path / "merged", models[2] / "20250101-000000" / "policy"
    merge(models, output, shard_gb=5e-4)
    assert (output / "model.safetensors.index.json").is_file()
    want = expected([*models[:2], last], 0.2)
    torch.testing.assert_close(whole_vector(weights(output)), want, atol=1e-6, rtol=0)
    policy = load_policy(str(output))
    assert policy.model.lm_head.weight is policy.model.model.embed_tokens.weight
    assert policy.tokenizer.chat_template == AutoTokenizer.from_pretrained(EMBEDDED).chat_template
    described = json.loads((output / "merge.json").read_text())
    assert described["models"] == [*map(str, models[:2]), str(last)]
    assert described["kept"] == pytest.approx([0.2, 0.2, 0.2], abs=1e-3)


def test_a_tied_tensor_that_one_writer_kept_changes_nothing(models: list[Path], tmp_path: Path) -> None:
    kept = shutil.copytree(models[0], tmp_path / "kept")
    content = load_file(kept / "model.safetensors")
    content["lm_head.weight"] = content["model.embed_tokens.weight"].clone()
    save_file(content, kept / "model.safetensors", metadata={"format": "pt"})
    for name, first in (("plain", models[0]), ("tied", kept)):
        merge([first, models[1]], tmp_path / name)
    torch.testing.assert_close(weights(tmp_path / "plain"), weights(tmp_path / "tied"), rtol=0, atol=0)


SHORTER, MISSING, NAN = torch.ones(127), torch.ones(0), torch.full((128,), torch.nan)


@pytest.mark.parametrize(
    ("norm", "heads", "message"),
    [
        (SHORTER, 4, r"was not trained from .*: model\.norm\.weight has the shape \(127,\) instead of \(128,\)"),
        (MISSING, 4, r"was not trained from .*: it lacks the tensor model\.norm\.weight"),
        (NAN, 2, r"was not trained from .*: num_attention_heads is 2 instead of 4"),
        (NAN, 4, r": a value is not finite; its training has diverged, leave it out"),
    ],
)
def test_models_that_do_not_belong_together_are_named(
    norm: torch.Tensor, heads: int, message: str, models: list[Path], tmp_path: Path
) -> None:
    altered = shutil.copytree(models[0], tmp_path / "altered")
    content = load_file(altered / "model.safetensors") | {"model.norm.weight": norm}
    kept = {name: value for name, value in content.items() if value.numel()}
    save_file(kept, altered / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((altered / "config.json").read_text()) | {"num_attention_heads": heads}
    (altered / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=f"models: {tmp_path}/altered.*{message}"):
        merge([models[0], tmp_path / "altered"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


CONFIGS = {  # what decides what weights mean, and how it is named
    "rms_norm_eps is 0.001 instead of 1e-06": {"rms_norm_eps": 1e-3},
    "rope_parameters.rope_theta is 5000.0 instead of 10000.0": {"rope_theta": 5e3, "rope_parameters": None},
    "rope_parameters.rope_type is 'linear' instead": {
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    },
    "hidden_act is 'gelu' instead": {"hidden_act": "gelu"},
    "sliding_window is 16 instead of": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0},
    "layer_scale is 2 instead of 'nothing'": {"layer_scale": 2},
    "tie_word_embeddings is False": {"tie_word_embeddings": False},
}
HARMLESS = {"use_cache": False, "attention_dropout": 0.1, "dtype": "bfloat16", "eos_token_id": 5, "_commit_hash": "abc"}


def other(directory: Path, **config: object) -> Path:
    """The embedded policy under another config."""
    made = shutil.copytree(EMBEDDED, directory)
    (made / "config.json").write_text(json.dumps(json.loads((made / "config.json").read_text()) | config))
    return made


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_computes_otherwise_is_refused_by_its_key(what: str, tmp_path: Path) -> None:
    with Weights(EMBEDDED) as ours, Weights(other(tmp_path / "other", **CONFIGS[what])) as theirs:
        assert any(what in found for found in differences(ours, theirs))
        with pytest.raises(BadInput, match=r"models: .*/other was not trained from"):
            check_same(ours, theirs)


def test_what_only_training_or_sampling_reads_may_differ(tmp_path: Path) -> None:
    with Weights(EMBEDDED) as ours, Weights(other(tmp_path / "other", **HARMLESS)) as theirs:
        assert [*differences(ours, theirs)] == []


def swap(tokenizer: dict[str, Any]) -> None:
    names = list(tokenizer["model"]["vocab"])[600:602]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[names[0]], vocabulary[names[1]] = vocabulary[names[1]], vocabulary[names[0]]


def rename(tokenizer: dict[str, Any]) -> None:
    tokenizer["added_tokens"][-1]["content"] += "!"


TOKENS = {
    r"\d tokens differ: .* is token \d+ instead of \d+": swap,
    r"\d+ tokens differ": rename,
    "divides text in another way .*'model'": lambda tokenizer: tokenizer["model"]["merges"].pop(),
}


@pytest.mark.parametrize("what", TOKENS)
def test_tokens_that_stand_for_something_else_are_refused(what: str, tmp_path: Path) -> None:
    path = other(tmp_path / "other") / "tokenizer.json"
    content = json.loads(path.read_text())
    TOKENS[what](content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=rf"models: .*/other was not trained from .*: .*{what}"):
        merge([EMBEDDED, path.parent], tmp_path / "out")


def test_another_end_or_chat_template_is_refused(tmp_path: Path) -> None:
    for number, (change, what) in enumerate(
        [({"eos_token": "<answer>"}, "eos_token '<answer>' instead of"), ({}, "chat template is another one")]
    ):
        model = other(tmp_path / str(number))
        tokenizer = AutoTokenizer.from_pretrained(model, **change)
        tokenizer.chat_template += "" if change else "Think."
        tokenizer.save_pretrained(model)
        with pytest.raises(BadInput, match=what):
            merge([EMBEDDED, model], tmp_path / "out")


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
    merge([here, f"runs:/{away}/best/1_math"], tmp_path / "out", tracking_uri=tracking_uri)
    want = expected([models[2] / "20250101-000000" / "policy", models[1]], 0.2)
    torch.testing.assert_close(whole_vector(weights(tmp_path / "out")), want, atol=1e-6, rtol=0)
    gone = rf"there is none in {tmp_path}/gone, .* copy it here and give its directory"
    for name, message in [
        (away, rf"run {away} has no 'policy': {gone}"),
        (none, r"has no 'policy': it names no folder, .* give the policy's directory instead"),
        (f"runs:/{'0' * 32}", rf"no run {'0' * 32} at {tracking_uri}; name the store"),
    ]:
        with pytest.raises(BadInput, match=message):
            merge([name, models[0]], tmp_path / "no", tracking_uri=tracking_uri)


def test_settings_that_cannot_be_used_are_named(models: list[Path], tmp_path: Path) -> None:
    both: list[object] = list(models[:2])
    for found, output, settings, message in [
        (both[:1], "x", {}, "models has 1 entries; a merge takes two or more"),
        (both, "x", {"density": 0.0}, r"density is 0\.0; it is a share"),
        (both, "x", {"shard_gb": 0.0}, r"shard_gb is 0\.0; use more than 0"),
        (both, "", {}, r"exists; choose another, or pass --overwrite=true"),
        ([tmp_path, models[1]], "x", {}, "nor a finished run with a policy in it"),
        (["./nowhere"] * 2, "x", {}, r"no directory './nowhere'"),
        (["nobody/nothing"] * 2, "x", {}, r"'nobody/nothing' is no directory here"),
    ]:
        with pytest.raises(BadInput, match=message):
            merge(found, tmp_path / output, **settings)


def adapter(directory: Path, seed: int, rank: int = 4, **settings_: Any) -> Path:
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **settings_
    )
    get_peft_model(base(), settings).save_pretrained(directory)
    return directory


def logits(path: Path) -> torch.Tensor:
    model = PeftModel.from_pretrained(base(), path)
    with torch.no_grad():
        return model(torch.arange(3, 20)[None]).logits


def test_factors_are_merged_as_tensors_of_the_base_zero(tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "one", 1), adapter(tmp_path / "two", 2)
    merge([one, two], tmp_path / "out", density=0.5)
    parts = [load_file(path / "adapter_model.safetensors") for path in (one, two, tmp_path / "out")]
    assert parts[0].keys() == parts[2].keys()
    for name, merged in parts[2].items():
        # Each factor carries the square root of alpha / r = 2, which the merged adapter no longer has.
        expected = 2**0.5 * ties([parts[0][name], parts[1][name]], torch.ones(2), density=0.5)
        torch.testing.assert_close(merged, expected)
    assert json.loads((tmp_path / "out" / "merge.json").read_text())["method"] == "ties"
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert not (tmp_path / "out" / "config.json").exists(), "an adapter is no model"


def test_updates_of_the_same_adapter_merge_to_it_and_adapters_that_do_not_fit_are_named(tmp_path: Path) -> None:
    one, wide, out = adapter(tmp_path / "one", 1), adapter(tmp_path / "wide", 2, rank=8), tmp_path / "out"
    elsewhere = shutil.copytree(one, tmp_path / "elsewhere")
    described = json.loads((one / "adapter_config.json").read_text())
    described["base_model_name_or_path"] = str(other(tmp_path / "base", rms_norm_eps=1e-3))
    (elsewhere / "adapter_config.json").write_text(json.dumps(described))
    merge([one, one], out, density=0.9999999, lora="ties_svd")
    torch.testing.assert_close(logits(out), logits(one), atol=0.05, rtol=0.01)
    for models, message in [
        ([one, wide], r"the adapter .*wide has r 8, .*one has 4; merge adapters of one shape"),
        ([one, "embedded"], "models holds full models and adapters"),
        ([one, adapter(tmp_path / "dora", 3, use_dora=True)], r"dora has use_dora True, which a merge would leave out"),
        ([one, adapter(tmp_path / "head", 3, modules_to_save=["norm"])], r"head has modules_to_save \['norm'\]"),
        ([one, adapter(tmp_path / "few", 3, layers_to_transform=[0])], r"few has layers_to_transform \[0\], .*None"),
        ([one, elsewhere], r"elsewhere was not trained on .*: rms_norm_eps is 0.001 .*; name its base"),
    ]:
        with pytest.raises(BadInput, match=message):
            merge(models, tmp_path / "no")


def test_the_best_checkpoints_of_runs_are_merged_if_asked_for_and_else_the_last(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "kind" / "20250101-000000"
    for seed, run in enumerate((one, two)):
        tuned(run / "policy", 10 + seed)
        tuned(run / "best" / "1_math", 20 + seed)
    runs = [one, tmp_path / "kind"]
    for checkpoint, folder in (("best", "best/1_math"), ("last", "policy")):
        output = tmp_path / checkpoint
        merge(runs, output, checkpoint=checkpoint)
        want = expected([one / folder, two / folder], 0.2)
        torch.testing.assert_close(whole_vector(weights(output)), want, atol=1e-6, rtol=0)
    merge([one / "policy", two], tmp_path / "named", checkpoint="best")  # a model is what it is
    named = json.loads((tmp_path / "named" / "merge.json").read_text())["models"]
    assert named == [str(one / "policy"), str(two / "best" / "1_math")]


def test_a_run_without_one_best_policy_is_refused(tmp_path: Path, models: list[Path]) -> None:
    tuned(tmp_path / "run" / "policy", 1)
    with pytest.raises(BadInput, match=r"run/best has the best policy of no stage, not of one; train with validation"):
        merge([models[0], tmp_path / "run"], tmp_path / "out", checkpoint="best")
    for stage in ("1_code", "2_math"):
        shutil.copytree(tmp_path / "run" / "policy", tmp_path / "run" / "best" / stage)
    with pytest.raises(BadInput, match=r"2 stages \(1_code, 2_math\), not of one"):
        merge([models[0], tmp_path / "run"], tmp_path / "out", checkpoint="best")
