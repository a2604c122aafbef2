"""A PostgreSQL for the catalogues of lakes."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.postgres import server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """How a new server is reached. Its user must be let in to its folder, which pytest's own, shut
    again whenever another pytest starts, would not do.
    """
    with TemporaryDirectory() as folder, server(Path(folder)) as running:
        yield running.reach
