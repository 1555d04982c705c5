"""How tests are found and what they share.

The repository root is on the path (`pythonpath` in pyproject.toml) and tests are imported with `--import-mode=importlib`: a test
imports its support as `from tests.support.shared import shared_data`, files of one name may stand in several folders, and the
folders need no `__init__.py`.

Markers: `slow` takes long (`make test` leaves it out, `make test-all` does not), `ray` starts Ray, `s3` starts an S3 server on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.shared import REPOSITORY, shared_data


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return REPOSITORY


@pytest.fixture(name="shared_data", scope="session")
def shared_data_fixture() -> Callable[..., Path]:
    """Return `shared_data(*parts)`, which skips the test where the recordings are missing."""
    return shared_data
