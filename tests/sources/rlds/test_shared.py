"""The RLDS reader on the shared recordings, against the figures that another tool took of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items
from dataengine.sources.listing import list_source
from dataengine.sources.rlds import reader as rlds
from dataengine.sources.rlds.tf_example import parse_example
from dataengine.sources.rlds.tfrecord import read_records
from tests.support.shared import shared_data

SHARDS = "rlds/octo_bridge_head/bridge_dataset/1.0.0"


def read_split(split: str) -> list[Episode]:
    listing = list_source(str(shared_data("rlds")))
    (item,) = [item for item in rlds.find(listing).items if item.splits == (split,)]
    outcomes = list(episodes_of(rlds.read(item, listing.opener, ReadOptions())))
    assert item.recordings == 25
    assert all(isinstance(outcome, Episode) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Episode)]


def sha(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def values(episode: Episode, name: str) -> Any:
    return episode.streams[name].values


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_episode_has_the_figures_of_the_facts(split: str) -> None:
    facts = json.loads(shared_data("FACTS.json").read_text())[f"{SHARDS}/bridge_dataset-{split}.tfrecord-00000-of-00001"]["per_episode"]
    episodes = read_split(split)
    assert len(episodes) == len(facts) == 25
    for number, (episode, fact) in enumerate(zip(episodes, facts, strict=True)):
        metadata = episode.info.metadata
        assert episode.info.key == str(number)
        assert episode.info.dataset == "bridge_dataset"
        assert {name: metadata[name] for name in ("episode_id", "file_path")} == {name: fact[name] for name in ("episode_id", "file_path")}
        assert [metadata[name] for name in sorted(metadata) if name.startswith("has_")] == [
            bool(fact[name]) for name in sorted(fact) if name.startswith("has_")
        ]
        assert episode.info.tasks == ((fact["instruction"],) if fact["instruction"] else ())
        assert len(metadata) + len(episode.streams) == fact["keys"] == 20
        for key, name in (("steps/action", "action"), ("steps/observation/state", "observation.state")):
            array = values(episode, name)
            assert array.shape == (fact["steps"], 7)
            assert round(float(array.astype(np.float64).sum()), 5) == fact[f"sum {key}"]
            assert np.round(array[0].astype(np.float64), 6).tolist() == fact[f"first {key}"]
            assert np.round(array[-1].astype(np.float64), 6).tolist() == fact[f"last {key}"]
        for camera in range(4):
            items = values(episode, f"observation.images.image_{camera}")
            fact_image = fact[f"img steps/observation/image_{camera}"]
            assert isinstance(items, Items)
            assert items.encodings == "jpeg"
            assert (len(items), sha(items.data[0]), sha(items.data[-1])) == (fact_image["n"], fact_image["sha_first"], fact_image["sha_last"])
        for flag in ("is_last", "is_terminal"):
            assert np.flatnonzero(values(episode, flag)).tolist() == fact[f"{flag}_at"]


def content(episode: Episode) -> str:
    digest = hashlib.sha256()
    for name in sorted(episode.streams):
        stream = episode.streams[name].values
        parts: Sequence[Any] = stream.data if isinstance(stream, Items) else [np.ascontiguousarray(stream).tobytes()]
        for part in parts:
            digest.update(part)
    return digest.hexdigest()


def test_both_splits_hold_the_same_recordings() -> None:
    train, val = ([content(episode) for episode in read_split(split)] for split in ("train", "val"))
    assert sorted(train) == sorted(val)
    assert len(set(train)) == 25
    assert train != val


def test_every_byte_of_every_picture_is_in_the_record() -> None:
    path: Path = shared_data(SHARDS, "bridge_dataset-train.tfrecord-00000-of-00001")
    with open(path, "rb") as handle:
        records = [record for record in read_records(handle, "r") if isinstance(record, bytes)]
    first = parse_example(records[0], "r")
    assert (len(records), len(first)) == (25, 20)
    episode = read_split("train")[0]
    for camera in range(4):
        for item in values(episode, f"observation.images.image_{camera}").data:
            assert bytes(item) in records[0]
