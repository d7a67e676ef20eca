"""A small control plane for each attack."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.small import Small, small


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Small]:
    found = small(tmp_path)
    yield found
    found.store.close()
