"""Uploads a generation's checkpoint with its card to a hub: huggingface_hub (Apache-2.0)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from planners.errors import ComponentFailure, InvalidInput
from planners.models.checkpoint import require_checkpoint
from planners.models.hub import HUB_ID

README = "README.md"


@dataclass(frozen=True, slots=True)
class Parcel:
    """The files that go to a repository: those of a checkpoint, and its card."""

    repository: str
    folder: Path
    card: str

    def files(self) -> Iterator[tuple[str, int]]:
        """Name and bytes of each file that would go."""
        yield README, len(self.card.encode())
        for file in self._checkpoint():
            yield file.name, file.stat().st_size

    def _checkpoint(self) -> list[Path]:
        return sorted(
            file for file in self.folder.iterdir() if file.is_file() and file.name != README
        )

    def send(self, private: bool) -> str:
        """Create the repository if there is none, and upload in one commit; returns its address.

        The token is HF_TOKEN, or that of `hf auth login`; HF_ENDPOINT names another hub. Raises
        ComponentFailure where the hub refuses or is not reached.
        """
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HFValidationError

        operations = [
            CommitOperationAdd(README, self.card.encode()),
            *(CommitOperationAdd(file.name, str(file)) for file in self._checkpoint()),
        ]
        try:
            api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
            api.create_repo(self.repository, private=private, exist_ok=True)
            done = api.create_commit(
                self.repository, operations, commit_message="A generation, by Posterity"
            )
        except HFValidationError as error:
            raise InvalidInput(f"{self.repository}: {error}") from error
        except Exception as error:  # whatever a server may answer
            raise ComponentFailure(
                f"the hub took nothing of {self.repository}: {_told(error)}; set HF_TOKEN to a "
                "token that may write there"
            ) from error
        return str(done.commit_url)


def parcel(repository: str, folder: Path, card: str) -> Parcel:
    """The files that would be pushed. Raises InvalidInput where the repository's name is none, or
    the folder is no checkpoint.
    """
    if not HUB_ID.fullmatch(repository):
        raise InvalidInput(f"{repository!r} is no repository of a hub; name one as OWNER/NAME")
    return Parcel(repository, require_checkpoint(folder), card)


def _told(error: Exception) -> str:
    """The first line of an error, which holds no token."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
