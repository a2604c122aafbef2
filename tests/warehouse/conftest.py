"""A PostgreSQL for the catalogues of lakes."""

from collections.abc import Iterator

import pytest

from tests.postgres import server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """How a new server is reached."""
    with server(tmp_path_factory.mktemp("postgres")) as running:
        yield running.reach
