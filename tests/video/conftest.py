import json
from typing import Any

import pytest

from tests.support.shared import shared_data


@pytest.fixture(scope="session")
def shared_facts() -> dict[str, Any]:
    """Return the facts of each shared video by its path."""
    facts = json.loads(shared_data("FACTS.json").read_text())
    return {name: value for name, value in facts.items() if name.endswith((".mp4", ".mkv"))}
