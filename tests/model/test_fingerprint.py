"""A policy is told from another one behind the same name."""

from __future__ import annotations

import os
from pathlib import Path

from omnithink_pl.model.fingerprint import policy_version


def test_a_policy_is_the_same_while_no_file_of_it_changes(tmp_path: Path) -> None:
    weights, card = tmp_path / "model.safetensors", tmp_path / "README.md"
    weights.write_bytes(b"1")
    same = policy_version(str(tmp_path))
    card.write_text("a card")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index.lock").write_text("")
    (tmp_path / "training.log").write_text("a step")
    os.utime(weights, ns=(1, 1))  # copied
    assert policy_version(str(tmp_path)) == same
    weights.write_bytes(b"2")
    assert policy_version(str(tmp_path)) != same, "trained anew, with weights of the same size"
    commit = tmp_path / "models--a--b" / "snapshots" / "0123abc"
    commit.mkdir(parents=True)
    assert policy_version(str(commit)) == "0123abc"
