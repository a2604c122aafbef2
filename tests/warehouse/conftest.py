"""A PostgreSQL for the catalogues of lakes."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.postgres import Postgres, server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A new server. Its user must be let in to its folder, which pytest's own, shut again whenever
    another pytest starts, would not do.
    """
    with TemporaryDirectory() as folder, server(Path(folder)) as running:
        yield running


@pytest.fixture(scope="session")
def postgres(postgres_server: Postgres) -> str:
    """How it is reached."""
    return postgres_server.reach
