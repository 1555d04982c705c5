"""What tests of the core share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3_server import S3, serving


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Return a running server with the bucket "lab"."""
    with serving() as server:
        server.client().create_bucket(Bucket="lab")
        yield server
