from __future__ import annotations

from omnithink_pl.tracking.parameters import CHOSEN, parameters

CONFIG = {
    "name": "curriculum",
    "model": {
        "class_path": "omnithink_pl.modules.MultiTaskGRPO",
        "init_args": {
            "kl": {"beta": {"code": 0.01, "math": 0.01}, "targets": {}, "gain": 0.1},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-4, "eps": 1e-8}},
            "adapter": None,
        },
    },
    "curriculum": {"stages": [{"tasks": {"code": 1}, "steps": 0}, {"tasks": {"math": 1, "qa": 1}, "steps": 7}]},
}
CONFIG["curriculum"]["steps"] = {"code": 5}


def test_every_setting_is_a_parameter_once_chosen_ones_first() -> None:
    found = parameters(CONFIG)
    assert list(found)[:4] == ["stages", "steps", "kind", "method"]
    chosen = {name: value for name, value in found.items() if not name.startswith("yaml/")}
    assert chosen == {
        "stages": "code > math+qa",
        "steps": "5 > 7",
        "kind": "curriculum",
        "method": "MultiTaskGRPO",
        "adapter": "null",
        "beta": 0.01,
        "kl_targets": "{}",
        "optimizer": "AdamW",
        "lr": 0.0003,
    }
    rest = {name for name in found if name.startswith("yaml/")}
    assert rest == {f"yaml/{key}" for key in ("model.kl.gain", "model.optimizer.eps", *CURRICULUM)}
    assert sorted(found) == sorted(chosen) + sorted(rest)


CURRICULUM = ("curriculum.stages", "curriculum.steps.code")


def test_one_number_of_steps_is_that_of_every_task() -> None:
    assert parameters(CONFIG | {"curriculum": CONFIG["curriculum"] | {"steps": 4}})["steps"] == "4 > 7"


def test_a_dictionary_whose_entries_differ_is_one_value() -> None:
    config = {"model": {"kl": {"beta": {"code": 0.0, "math": 0.01}}}}
    assert parameters(config) == {"beta": '{"code": 0.0, "math": 0.01}'}


def test_numbers_stay_numbers_and_text_that_looks_like_one_stays_text() -> None:
    found = parameters(
        {"name": "007", "seed_everything": 7, "model": {"max_grad_norm": 1e-8}, "data": {"shuffle": True}}
    )
    assert found == {"kind": "007", "seed": 7, "max_grad_norm": 1e-8, "yaml/data.shuffle": "true"}


def test_names_that_are_chosen_come_before_the_rest() -> None:
    assert max(CHOSEN) < "yaml/"
    assert len(set(CHOSEN.values())) == len(CHOSEN)
