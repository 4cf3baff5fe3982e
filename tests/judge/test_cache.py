"""The file of verdicts, shared by processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from omnithink_pl.judge.cache import VerdictCache


def test_two_that_make_the_file_at_once_share_it(tmp_path: Path) -> None:
    path = str(tmp_path / "verdicts.sqlite")
    first, second = VerdictCache(path), VerdictCache(path)
    fast: list[bool] = []

    def be_faster(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "CREATE TABLE" in statement and not fast:
            fast.append(True)
            second.put("key", "B", "judge", "prompt")

    event.listen(Engine, "before_cursor_execute", be_faster)
    try:
        assert first.get(["key", "other"]) == {"key": "B"}
    finally:
        event.remove(Engine, "before_cursor_execute", be_faster)
    first.put("key", "A", "judge", "prompt")
    assert second.get(["key"]) == {"key": "B"}, "a question has one answer for ever"
    for cache in (first, second):
        cache.close()


@pytest.mark.parametrize("where", ["", "file/verdicts.sqlite"])
def test_a_place_that_cannot_be_used_is_named(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"(?s)judge\.cache: cannot open .*choose another file, or null"):
        VerdictCache(str(tmp_path / where)).get(["key"])
