"""KL coefficients that follow a target."""

from __future__ import annotations

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.kl_control import KLController, KLSettings

BETA = {"math": 0.01, "qa": 0.02}


def test_one_step_is_the_formula() -> None:
    controller = KLController(KLSettings(BETA, targets={"math": 0.1, "qa": 0.1}, gain=0.5, clip=0.2), BETA)
    controller.observe({"train/math/kl": 0.11, "train/qa/kl": 0.01})
    assert controller.beta == pytest.approx({"math": 0.01 * (1 + 0.5 * 0.1), "qa": 0.02 * (1 - 0.5 * 0.2)})


def test_a_distance_that_answers_to_the_penalty_is_led_to_its_target() -> None:
    controller = KLController(KLSettings({"math": 1.0}, targets={"math": 0.05}), ["math"])
    distance = 0.0
    for _ in range(2000):
        distance += 0.1 * (0.002 / controller.beta["math"] - distance)  # the larger beta, the closer it stays
        controller.observe({"train/math/kl": distance})
    assert distance == pytest.approx(0.05, rel=0.02)
    assert controller.beta["math"] == pytest.approx(0.04, rel=0.02)


def test_fixed_coefficients_and_tasks_that_a_step_does_not_have_stay_as_they_are() -> None:
    fixed, one = KLController(KLSettings(BETA), BETA), KLController(KLSettings(BETA, targets={"qa": 0.1}), BETA)
    for controller in (fixed, one):
        controller.observe({"train/math/kl": 9.0})
        assert controller.beta == BETA
    assert fixed.metrics() == {}
    assert one.metrics() == {"train/qa/beta": 0.02}


def test_one_number_is_the_coefficient_of_every_task() -> None:
    assert KLController(KLSettings(0.3), BETA).beta == {"math": 0.3, "qa": 0.3}
    assert [KLSettings(beta).penalises for beta in (0.3, 0.0, BETA, {"math": 0.0})] == [True, False, True, False]


def test_its_state_survives_a_checkpoint() -> None:
    settings = KLSettings(BETA, targets={"math": 0.1})
    one, other = KLController(settings, BETA), KLController(settings, BETA)
    one.observe({"train/math/kl": 0.3})
    other.load_state_dict(one.state_dict())
    assert other.beta == one.beta != BETA
    fixed = KLController(KLSettings(BETA), BETA)
    fixed.load_state_dict(one.state_dict())
    assert fixed.beta == BETA, "a target that is gone has no say"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": {"math": 0.0}, "targets": {"math": 0.1}}, r"model\.kl\.targets\.math: .* is 0\.0; start above 0"),
        ({"targets": {"art": 0.1}}, r"model\.kl\.targets\.art: .* is missing"),
        ({"targets": {"math": 0.0}}, r"model\.kl\.targets\.math is 0"),
        ({"gain": 0.0}, r"model\.kl: gain 0\.0 times clip"),
        ({"gain": 10.0}, r"model\.kl: gain 10\.0 times clip"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        KLSettings(**{"beta": {"math": 0.1}} | settings)
