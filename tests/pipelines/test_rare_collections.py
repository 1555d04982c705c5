from __future__ import annotations

import gc

import pytest

from pipelines.memory import COLLECTED_EVERY, rare_collections


def test_the_collector_is_as_before_after_a_unit_also_after_a_failure():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with rare_collections():
        assert gc.get_threshold() == (COLLECTED_EVERY, *before[1:])
        assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    with pytest.raises(RuntimeError, match="broken"), rare_collections():
        raise RuntimeError("broken")
    assert gc.get_threshold() == before
