"""A policy's folder on the hub: what is pushed is what was saved, and a refusal says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.model.hub import HubError, prepare_repository, push
from tests.model.upload_hub import TOKEN, UploadHub, upload_hub

# huggingface_hub 2 with httpx2, when it sends a large file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    with upload_hub(monkeypatch) as found:
        yield found


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    for name, content in {"README.md": b"# A card\n", "model.safetensors": bytes(range(256)) * 50}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_what_is_pushed_is_what_was_saved(hub: UploadHub, policy: Path) -> None:
    prepare_repository("me/mine", private=True)
    assert push(policy, "me/mine") == f"{hub.url}/me/mine"
    assert hub.files == {path.name: path.read_bytes() for path in policy.iterdir()}
    (made,) = hub.made
    assert (made["organization"], made["name"]) == ("me", "mine")
    assert "private" in (made.get("visibility"), *(key for key, value in made.items() if value is True))


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_is_one_line_with_the_cure_and_without_the_token(hub: UploadHub, policy: Path, status: int) -> None:
    hub.refuse = {"/commit/": status, "/repos/create": status}
    with pytest.raises(
        HubError, match=r"'me/mine' cannot be made .*; correct the name, or log in with `hf auth"
    ) as made:
        prepare_repository("me/mine", private=True)
    with pytest.raises(
        HubError, match=rf"the policy itself is saved: push it with `hf upload me/mine {policy}`"
    ) as sent:
        push(policy, "me/mine")
    for error in (made, sent):
        assert "\n" not in str(error.value)
        assert TOKEN not in str(error.value)


def test_without_a_token_or_with_a_name_that_is_none_nothing_is_asked(
    hub: UploadHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match=r"cannot be made .*HFValidationError"):
        prepare_repository("me/my policy/final", private=True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(HubError, match="no token of the hub is here; log in with `hf auth login`, or set HF_TOKEN"):
        prepare_repository("me/mine", private=True)
    assert hub.made == []


def test_without_the_hub_the_policy_stays_where_it_is(
    hub: UploadHub, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"could not be pushed \(OfflineModeIsEnabled: .*push it with `hf upload"):
        push(policy, "me/mine")
