from __future__ import annotations

import pytest

from omnithink_pl.tracking.logger import check_distinct, metric_name


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("train/math/reward", "train/math/reward"),
        ("eval/code/pass@1", "eval/code/pass_at_1"),
        ("eval/mmlu:law", "eval/mmlu_law"),
        ("seconds/rollout", "seconds/rollout"),
    ],
)
def test_a_name_keeps_what_tells_it_apart(name: str, stored: str) -> None:
    assert metric_name(name) == stored


def test_two_metrics_never_share_a_stored_name() -> None:
    check_distinct(["pass@1", "pass1"])
    with pytest.raises(ValueError, match="'a:b' and 'a_b'"):
        check_distinct(["a:b", "a_b"])
