"""A plan is the arithmetic that it says it is, and agrees with what a small model takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig

from main import CONFIGS, main
from omnithink_pl.errors import BadInput
from omnithink_pl.model.adapter import LoRA
from omnithink_pl.model.budget import Machine, Settings, Sizes, activations, memory, peak, room_for_layers, seconds
from omnithink_pl.verbs import optimizer_bytes
from tests.model.sizes import SEVEN
from tests.tiny import tiny_qwen

GIB = 2**30


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    return Sizes.of(SEVEN)


def test_parameters_are_counted_as_by_hand(sizes: Sizes) -> None:
    h, i, keys = 3584, 18944, 4 * 128
    layer = (h * h + h) + 2 * (h * keys + keys) + h * h + 3 * h * i + 2 * h
    assert sizes.parameters == sizes.trained == 2 * 152064 * h + 28 * layer + h == 7_615_616_512
    assert sizes.outside + 28 * sizes.layer == sizes.parameters
    assert (sizes.heads, sizes.keys) == (3584, 512)
    rank = 16
    ends = [(3584, 3584), (3584, 512), (3584, 512), (3584, 3584), (3584, 18944), (3584, 18944), (18944, 3584)]
    assert Sizes.of(SEVEN, LoRA(rank=rank)).trained == 28 * rank * sum(map(sum, ends))


def test_memory_of_seven_billion_parameters_on_eight_gpus_is_that_of_a_pocket_calculator(sizes: Sizes) -> None:
    plain = Settings(gpus=8, prompts=64, engine_weights="bfloat16", cache_gib=10, engine_sleeps=True)
    whole = memory(sizes, plain)
    for part, expected in {"weights": 28.37, "gradients": 28.37, "optimiser": 56.74, "reference": 28.37}.items():
        assert whole["update"][part] / GIB == pytest.approx(expected, abs=0.01)
    assert whole["update"]["gathered"] == whole["update"]["engine"] == whole["update"]["cache"] == 0.0, "it sleeps"
    assert (whole["rollout"]["engine"] / GIB, whole["rollout"]["cache"] / GIB) == (pytest.approx(14.19, abs=0.01), 10)
    divided = memory(sizes, replace(plain, sharded=True))
    for part in ("weights", "gradients", "optimiser", "reference"):
        assert divided["update"][part] == whole["update"][part] / 8
    small = Sizes.of(SEVEN, LoRA(rank=16))
    adapted = memory(small, Settings(gpus=8, prompts=64, adapted=True, weights="bfloat16"))
    assert adapted["update"]["reference"] == 0
    assert adapted["update"]["weights"] == 2 * sizes.parameters + 4 * small.trained
    assert adapted["update"]["optimiser"] == 8 * small.trained
    # 8 prompts x 8 completions x 2048 tokens x (key and value) x 28 layers x 512 wide x 4 bytes
    assert adapted["rollout"]["cache"] == 8 * 8 * 2048 * 2 * 28 * 512 * 4


def test_an_engine_takes_its_share_of_the_gpu_while_it_is_awake(sizes: Sizes) -> None:
    settings = Settings(engine_weights="bfloat16", engine_share=0.5, engine_sleeps=True, cuda_graphs=True)
    found = memory(sizes, settings, Machine(memory_gib=80))
    assert found["rollout"]["engine"] + found["rollout"]["cache"] == 40 * GIB
    assert found["update"]["engine"] + found["update"]["cache"] == 0
    assert found["update"]["graphs"] == found["rollout"]["graphs"] == GIB


def test_what_is_offloaded_counts_only_in_its_own_phase(sizes: Sizes) -> None:
    stays = memory(sizes, Settings(gpus=8, prompts=64, sharded=True, engine_weights="bfloat16"))
    offloaded = Settings(gpus=8, prompts=64, sharded=True, engine_weights="bfloat16", optimizer_offloaded=True)
    goes = memory(sizes, offloaded)
    assert goes["update"]["optimiser"] == goes["rollout"]["optimiser"] == 0.0
    assert goes["optimiser"] == stays["optimiser"]
    assert peak(goes) < peak(stays)


def test_gradients_that_are_reduced_once_are_whole_on_every_gpu(sizes: Sizes) -> None:
    settings = Settings(gpus=8, prompts=64, sharded=True)
    more = memory(sizes, replace(settings, reduce_once=True))["update"]["gradients"]
    assert more - memory(sizes, settings)["update"]["gradients"] == 4 * sizes.trained


def test_layers_that_keep_their_activations_cost_memory_and_save_their_recomputation(sizes: Sizes) -> None:
    every = Settings(gpus=8, prompts=64, sharded=True, compute="bfloat16", checkpointing=True)
    none, some = replace(every, checkpointing=False), replace(every, kept_layers=7)
    stored = [activations(sizes, settings) for settings in (every, some, none)]
    assert stored[1] == pytest.approx(0.75 * stored[0] + 0.25 * stored[2])
    updates = [seconds(sizes, settings, Machine())["update"] for settings in (every, some, none)]
    assert updates[1] == pytest.approx(0.75 * updates[0] + 0.25 * updates[2])
    assert activations(sizes, replace(every, kept_layers=28)) == stored[2]


@pytest.mark.parametrize("gib", [40.0, 80.0, 400.0])
def test_there_is_room_for_as_many_layers_as_fit_and_no_more(sizes: Sizes, gib: float) -> None:
    settings = Settings(gpus=8, prompts=64, sharded=True, compute="bfloat16", checkpointing=True, cache_gib=1)
    machine, room = Machine(memory_gib=gib), room_for_layers(sizes, settings, Machine(memory_gib=gib))
    fits = [peak(memory(sizes, replace(settings, kept_layers=n), machine)) <= 0.9 * gib * GIB for n in range(29)]
    assert fits == [n <= room for n in range(29)]


def kept_for_backward(model: torch.nn.Module, tokens: int) -> int:
    """Bytes that autograd really keeps of a forward pass, besides the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.base_model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
        return sum(kept.values())


@pytest.mark.parametrize(
    "shape",
    [{}, {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 4}],
)
def test_a_small_model_takes_what_its_plan_says(shape: dict[str, int]) -> None:
    model = tiny_qwen(**shape)
    sizes, settings = Sizes.of(model.config), Settings(micro_batch_tokens=100)
    assert activations(sizes, settings) == pytest.approx(kept_for_backward(model, 100), rel=0.1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 4, dtype=torch.long)).logits.sum().backward()
    optimizer.step()
    parts = memory(sizes, settings)["update"]
    assert parts["weights"] == sum(p.nbytes for p in model.parameters())
    assert parts["gradients"] == sum(p.grad.nbytes for p in model.parameters())
    state = sum(v.nbytes for s in optimizer.state.values() for v in s.values() if v.numel() > 1)
    assert parts["optimiser"] == state


def test_an_optimiser_is_asked_for_its_state() -> None:
    assert optimizer_bytes(torch.optim.AdamW) == pytest.approx(8, abs=0.01)
    assert optimizer_bytes(lambda parameters: torch.optim.SGD(parameters, lr=0.1)) == 0


def test_time_is_work_by_rate() -> None:
    sizes = Sizes.of(LlamaConfig(**{**tiny_qwen().config.to_dict(), "model_type": "llama"}))
    machine = Machine(tflops=2e-6, tflops_float32=1e-6, used=0.5, bandwidth=1e-6, read=1.0)
    settings = Settings(
        gpus=2, prompts=4, group_size=2, tokens=10, prompt_tokens=4, longest=24, reference=False,
        engine_weights="bfloat16", cuda_graphs=True,
    )  # fmt: skip
    found = seconds(sizes, settings, machine)
    assert found["update"] == pytest.approx(6 * sizes.parameters * 2 * 2 * 10 / 0.5e6)
    fast = seconds(sizes, replace(settings, compute="bfloat16"), machine)
    assert fast["update"] == pytest.approx(found["update"] / 2), "float32 is not charged at bfloat16's rate"
    # As many passes as the longest completion has tokens; of four rows, six tokens each behind seven on average.
    read = 20 * 2 * sizes.parameters + 4 * 6 * 7 * 2 * sizes.layers * sizes.keys * 2
    assert found["rollout"] == pytest.approx(read / 1e6)
    eager = seconds(sizes, replace(settings, cuda_graphs=False), machine)
    assert eager["rollout"] - found["rollout"] == pytest.approx(20 * sizes.layers * machine.launch_ms / 1e3)


def test_gpus_that_do_not_divide_a_batch_are_refused() -> None:
    with pytest.raises(BadInput, match=r"data\.batch_size 8 must be a multiple of the 3 GPUs"):
        Settings(gpus=3)


def test_a_run_for_sixty_four_gpus_is_planned_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    overlay = f"--config={CONFIGS / 'scale' / 'fsdp.yaml'}"
    main(["budget", overlay, "--trainer.accelerator=gpu", "--trainer.num_nodes=8", "--data.batch_size=64"])
    shown = capsys.readouterr().out
    assert "722,560 parameters, 722,560 trained, 64 GPUs" in shown
    for part in ("weights", "rollout", "update", "optimiser", "gathered", "tokens per second"):
        assert part in shown
