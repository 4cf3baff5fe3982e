"""Seeds of examples: a function of the example, whatever stands beside it."""

from __future__ import annotations

from omnithink_pl.seeds import keyed_seeds

KEYS = ["math/1", "qa/1", "math/2", "qa/7"]


def test_a_seed_depends_neither_on_the_other_keys_nor_on_the_place() -> None:
    whole = keyed_seeds(KEYS, 5, 3)
    assert keyed_seeds(KEYS[::-1], 5, 3) == whole[::-1]
    assert keyed_seeds(KEYS[1::2], 5, 3) == whole[1::2]
    assert all(0 <= seed < 2**63 for seed in whole)


def test_keys_repetitions_steps_and_runs_all_differ() -> None:
    seeds = [
        *keyed_seeds(KEYS, 5, 3),
        *keyed_seeds(KEYS, 5, 4),
        *keyed_seeds(KEYS, 6, 3),
        *keyed_seeds(["math/1"] * 3, 5, 3)[1:],
    ]
    assert len(set(seeds)) == 14


def test_a_repeated_key_counts_its_own_repetitions_only() -> None:
    alone, among = keyed_seeds(["a", "a"], 1), keyed_seeds(["a", "b", "a"], 1)
    assert among[::2] == alone
