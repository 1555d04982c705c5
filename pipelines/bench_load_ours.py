"""Our side of the reading benchmark, as a process of its own: `python -m pipelines.bench_load_ours JSON` prints one line of JSON, as the peers' scripts do."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.peers.measure import answer, asked, measure

FRAMEWORK: Any = "torch" if importlib.util.find_spec("torch") is not None else "numpy"


def one_thread() -> None:
    """Import the libraries that reading needs, so that no figure holds their start, and pin those that bring threads of their own to one."""
    for name in ("av", "deltalake", "polars", "pyarrow.parquet", "dataengine.store.store"):
        importlib.import_module(name)
    importlib.import_module("cv2").setNumThreads(1)
    if FRAMEWORK == "torch":
        importlib.import_module("torch").set_num_threads(1)


def _mixture(spec: dict[str, Any]) -> Any:
    from dataengine.loaders import Mixture

    return Mixture([spec["store"]])


def _fields(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what every side reads: both cameras, the state, and a chunk of actions."""
    from dataengine.loaders import Field

    return {"camera:primary": Field(), "camera:wrist": Field(), "state": Field(), "action": Field(steps=range(spec["horizon"]))}


def open_stream(spec: dict[str, Any]) -> Any:
    """Open the streaming loader."""
    from dataengine.loaders import loader

    extra = {"order": spec["order"]} if spec.get("order") else {}
    return loader(_mixture(spec), fields=_fields(spec), batch_size=spec["batch"], seed=7, workers=spec["workers"], framework=FRAMEWORK, **extra)


def open_map(spec: dict[str, Any]) -> Any:
    """Open the map-style dataset under a plain torch DataLoader with a random sampler."""
    from dataengine.loaders import dataset

    torch, loading = importlib.import_module("torch"), importlib.import_module("torch.utils.data")
    data = dataset(_mixture(spec), fields=_fields(spec))
    chosen = loading.RandomSampler(data, generator=torch.Generator().manual_seed(7))
    return loading.DataLoader(data, batch_size=spec["batch"], sampler=chosen, num_workers=spec["workers"], persistent_workers=spec["workers"] > 0)


def read_stream(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure the streaming loader over whole epochs, with its own counts of frames and bytes."""
    opened: list[Any] = []

    def open_reader() -> Iterable[Any]:
        opened.append(open_stream(spec))
        return opened[0]  # type: ignore[no-any-return]

    def counters() -> dict[str, float]:
        return {name: float(opened[0].counters.get(name, 0)) for name in ("frames_decoded", "frames_used", "bytes_read")}

    def size_of(batch: Any) -> int:
        return int(np.count_nonzero(np.asarray(batch["weight"])))

    return measure(open_reader, size_of, spec["warmup"], spec["batches"], spec["seconds"], whole_epochs=True, counters=counters)


def read_map(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure random access."""
    return measure(lambda: open_map(spec), lambda batch: len(batch["state"]), spec["warmup"], spec["batches"], spec["seconds"])


def shuffle_quality(spec: dict[str, Any]) -> dict[str, Any]:
    """Read one epoch and compare its order with a perfect shuffle."""
    from pipelines.bench_load_figures import clip_pairs_ratio, episode_variance_ratio

    batches = open_stream(spec)
    clips, episodes = [], []
    for batch in batches:
        real = np.asarray(batch["weight"]) > 0
        clips.append(np.asarray(batches.clip_of(np.asarray(batch["sample"])))[real])
        episodes.append(np.asarray(batch["episode"])[real])
    return {"clip_pairs_over_perfect": clip_pairs_ratio(clips), "episode_variance_over_perfect": episode_variance_ratio(episodes)}


def first_batch(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds from the call of the loader to its first batch; everything is imported before."""
    started = time.perf_counter()
    next(iter(open_stream(spec)))
    return {"first_batch_s": time.perf_counter() - started}


def open_mixture(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds that opening a mixture over a catalogue takes; nothing of the payload needs to be there."""
    started = time.perf_counter()
    found = open_stream(spec)
    return {"open_s": time.perf_counter() - started, "samples": int(found.samples)}


def _films(store: str) -> list[tuple[str, str, int, int]]:
    """Return (video, store, first frame, frames) of every camera of every episode."""
    from dataengine.store.store import open_store
    from dataengine.store.stored_streams import media_of

    opened = open_store(store)
    rows = opened.episodes().collect().rows(named=True)
    entries = [(row, entry) for row in rows for entry in opened.index(row) if entry["kind"] == "video"]
    return [(media_of(row, entry), store, entry["first_frame"], entry["frames"]) for row, entry in entries]


def decode_whole(film: tuple[str, str, int, int]) -> int:
    """Decode the frames of one camera of one episode in order to RGB; return how many."""
    from dataengine.core.objects import open_objects
    from dataengine.store.media import read_index
    from dataengine.video.decode import FrameReader
    from dataengine.video.index import FrameIndex

    importlib.import_module("cv2").setNumThreads(1)
    key, store, first, frames = film
    if key not in _READERS:
        columns, facts = read_index(open_objects(store), key, 0)
        _READERS[key] = FrameReader(str(Path(store) / key), FrameIndex.from_columns(columns, facts))
    return sum(len(block) for block in _READERS[key].blocks(first, first + frames, BLOCK_FRAMES))


_READERS: dict[str, Any] = {}
BLOCK_FRAMES = 8  # the fastest: what is decoded stays in the cache until it is converted


def decode_bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Decode every frame of the store once an epoch, in order, by so many processes: `frames_s`."""
    films = _films(spec["store"])

    def epochs(decode: Callable[[list[Any]], Iterator[int]]) -> Callable[[], Iterable[Any]]:
        class Films:
            def __iter__(self) -> Iterator[int]:
                return decode(films)

        return Films

    if spec["processes"] == 1:
        found = measure(epochs(lambda all_films: map(decode_whole, all_films)), int, 1, 1, spec["seconds"], whole_epochs=True)
    else:
        with ProcessPoolExecutor(spec["processes"], mp_context=get_context("spawn")) as pool:
            found = measure(epochs(lambda all_films: pool.map(decode_whole, all_films)), int, 1, 1, spec["seconds"], whole_epochs=True)
    return {"frames_s": found["samples_s"], "cpu_ms_a_frame": found["cpu_ms_a_sample"]}


WAYS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "stream": read_stream,
    "map": read_map,
    "bare": decode_bare,
    "shuffle": shuffle_quality,
    "first_batch": first_batch,
    "open": open_mixture,
}


def main() -> None:
    """Do what is asked for, and print what it came to."""
    spec = asked()
    one_thread()
    from dataengine.loaders import Field, Mixture, dataset, loader

    assert all((Field, Mixture, dataset, loader))
    answer(WAYS[spec["way"]](spec))


if __name__ == "__main__":
    main()
