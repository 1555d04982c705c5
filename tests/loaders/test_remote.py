"""Batches from an object store: the same as from a folder, by ranges, each block fetched once, and none in a second pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.cached_objects import CacheOptions
from dataengine.core.errors import UsageError
from dataengine.loaders import Field, Mixture, Shuffle, dataset, loader
from tests.support.s3_server import S3, serving

FIELDS = {"camera:primary": Field(steps=[-1, 0]), "camera:wrist": Field(), "action": Field(steps=range(4)), "task": Field()}
SMALL = Shuffle(clip_steps=20, spread=8, lanes=8, groups=2)

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


def contents(store: str, options: dict[str, str], cache: CacheOptions | None, workers: int) -> list[tuple[Any, ...]]:
    mixture = Mixture(f"{store}#lab", storage_options=options)
    with loader(mixture, FIELDS, 16, seed=4, shuffle=SMALL, workers=workers, framework="numpy", cache=cache) as batches:
        return [
            (batch["sample"].tolist(), batch["camera:primary"].tobytes(), batch["camera:wrist"].tobytes(), np.array(batch["action"]).tolist(), batch["task"])
            for batch in batches
        ]


def test_batches_are_those_of_the_folder_and_a_second_pass_asks_for_no_payload(lab: Path, s3: S3, tmp_path: Path) -> None:
    address = s3.upload(lab, "training", "store")
    expected = contents(str(lab), {}, None, 0)
    options = s3.options(watched=True)
    cache = CacheOptions(tmp_path / "blocks", limit_bytes=1 << 30, block_bytes=1 << 16)
    s3.asked()
    assert contents(address, options, cache, 0) == expected
    first = [line for line in s3.asked() if line.startswith("GET") and any(part in line for part in ("/streams/", "/steps/", "/media/"))]
    assert first
    assert max(Counter(first).values()) == 1  # no range is fetched twice
    for workers in (0, 2):
        assert contents(address, options, cache, workers) == expected
        assert [line for line in s3.asked() if line.startswith("GET") and any(part in line for part in ("/streams/", "/steps/", "/media/"))] == []


def test_a_forked_worker_says_how_to_start_it_instead_of_waiting_for_ever(lab: Path, s3: S3) -> None:
    from torch.utils.data import DataLoader

    data = dataset(Mixture(f"{s3.upload(lab, 'forked', 'store')}#lab", storage_options=s3.options()), {"action": Field()})
    with pytest.raises(UsageError, match="start workers with 'spawn'"):
        next(iter(DataLoader(data, batch_size=4, num_workers=1, multiprocessing_context="fork", timeout=60)))
    spawned = DataLoader(data, batch_size=40, num_workers=1, multiprocessing_context="spawn", timeout=60)
    assert sum(len(batch["sample"]) for batch in spawned) == len(data)


def test_without_a_cache_the_batches_are_the_same(lab: Path, s3: S3) -> None:
    address = s3.upload(lab, "bare", "store")
    assert contents(address, s3.options(), None, 1) == contents(str(lab), {}, None, 0)
