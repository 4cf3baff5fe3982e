"""Pushing a trained policy to the Hugging Face hub. The token is the machine's own, never a setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnithink_pl.errors import OmniThinkError

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


class HubError(OmniThinkError):
    """The hub refused a repository or a policy, or cannot be reached."""


def prepare_repository(name: str, private: bool) -> None:
    """Make a model repository unless it is there: a wrong name or a missing right shows before hours of training.

    Raises:
        HubError: If it cannot be made; says why.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise HubError(f"model_card.push_to_hub: no token of the hub is here; {LOGIN}")
    with _explained(f"model_card.push_to_hub: the repository {name!r} cannot be made", f"correct the name, or {LOGIN}"):
        HfApi().create_repo(name, private=private, exist_ok=True)


def push(folder: Path, name: str) -> str:
    """Upload a policy's folder in one commit and return its address; files that are there already are not sent again.

    Raises:
        HubError: If the hub cannot be reached or refuses it; has the command to try again.
    """
    from huggingface_hub import HfApi

    cure = f"the policy itself is saved: push it with `hf upload {name} {folder}`"
    with _explained(f"model_card.push_to_hub: {name!r} could not be pushed", cure):
        done = HfApi().upload_folder(repo_id=name, folder_path=folder, commit_message="Add the trained policy")
    return str(done.repo_url)


@contextmanager
def _explained(what: str, cure: str) -> Iterator[None]:
    from httpx2 import HTTPError
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except (OSError, HTTPError, HFValidationError, RuntimeError) as error:  # RuntimeError around that of a large file
        cause = error.__cause__ or error
        why = " ".join(str(cause).split())[:300]
        raise HubError(f"{what} ({type(cause).__name__}: {why}); {cure}") from error
