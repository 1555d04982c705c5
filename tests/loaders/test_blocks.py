"""Memory for batches: used again as soon as nobody looks at it."""

from __future__ import annotations

import numpy as np

from dataengine.loaders.blocks import BlockPool


def test_a_block_is_used_again_when_the_last_view_of_it_is_gone() -> None:
    pool = BlockPool()
    places = set()
    before = None
    for _ in range(50):
        block = pool.block(1 << 20)
        places.add(int(block.ctypes.data))
        view = block[16:].view(np.float32)
        del block
        before = view  # two are in use at a time: the one that is being filled, and the one before
    assert before is not None
    assert len(places) == 2
    larger = pool.block(1 << 21)
    assert len(larger) == 1 << 21
    assert int(larger.ctypes.data) not in places
