"""The folder of real recordings that lies beside the checkout, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """Return a path below the shared recordings; skip the running test, with the reason, where it is missing."""
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real recordings are not here: {'/'.join(('shared', 'data', *parts))} beside the checkout")
    return path
