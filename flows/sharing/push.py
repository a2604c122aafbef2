"""Uploads a generation's checkpoint with its card to a hub: huggingface_hub (Apache-2.0)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from planners.errors import ComponentFailure, InvalidInput
from planners.models.checkpoint import ADAPTER, checkpoint_files, require_checkpoint
from planners.models.hub import HUB_ID, is_on_hub

README = "README.md"


@dataclass(frozen=True, slots=True)
class Parcel:
    """The files that go to a repository: those of a checkpoint, and its card."""

    repository: str
    folder: Path
    card: str
    base: str

    def files(self) -> Iterator[tuple[str, int]]:
        """Name and bytes of each file that would go."""
        yield README, len(self.card.encode())
        for name, file in self._checkpoint():
            yield name, file.stat().st_size

    def _checkpoint(self) -> list[tuple[str, Path]]:
        found = checkpoint_files(self.folder)
        return [(file.relative_to(self.folder).as_posix(), file) for file in found]

    def _content(self, file: Path) -> str | bytes:
        """A file's place, or what goes in its stead: of an adapter, its base by its name on the hub
        and not by its place here.
        """
        if file.name != ADAPTER:
            return str(file)
        told = json.loads(file.read_text("utf-8")) | {"base_model_name_or_path": self.base}
        return json.dumps(told, indent=2).encode()

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
            *(CommitOperationAdd(name, self._content(file)) for name, file in self._checkpoint()),
        ]
        try:
            api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
            api.create_repo(self.repository, private=private, exist_ok=True)
            is_private = bool(api.repo_info(self.repository).private)
        except HFValidationError as error:
            raise InvalidInput(f"{self.repository}: {error}") from error
        except Exception as error:  # whatever a server may answer
            raise self._refused(error) from error
        if is_private != private:  # it was there before
            found, remedy = (
                ("private", "leave out --public")
                if is_private
                else ("public", "push with --public")
            )
            raise InvalidInput(
                f"{self.repository} exists already, and it is {found}; {remedy}, change it on the "
                "hub, or name another repository"
            )
        try:
            done = api.create_commit(
                self.repository, operations, commit_message="A generation, by Posterity"
            )
        except Exception as error:
            raise self._refused(error) from error
        return str(done.commit_url)

    def _refused(self, error: Exception) -> ComponentFailure:
        return ComponentFailure(
            f"the hub took nothing of {self.repository}: {_told(error)}; set HF_TOKEN to a token "
            "that may write there"
        )


def parcel(repository: str, folder: Path, card: str, base: str) -> Parcel:
    """The files that would be pushed. Raises InvalidInput where the repository's name is none, the
    folder is no checkpoint, or an adapter of a `base` that others cannot get.
    """
    if (folder / ADAPTER).is_file() and not is_on_hub(base):
        raise InvalidInput(
            f"{folder} is an adapter of {base}, which is not on a hub, so that nobody else could "
            'use it; push a generation of a model that is (model.base = "OWNER/NAME")'
        )
    if not HUB_ID.fullmatch(repository):
        raise InvalidInput(f"{repository!r} is no repository of a hub; name one as OWNER/NAME")
    return Parcel(repository, require_checkpoint(folder), card, base)


def _told(error: Exception) -> str:
    """The first line of an error, which holds no token."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
