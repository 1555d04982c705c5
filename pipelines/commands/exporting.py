"""`dataengine export`: a dataset of a version as files that other tools read."""

from __future__ import annotations

from dataengine.core.errors import UsageError
from dataengine.publish.episode_samples import SampleForm
from dataengine.publish.webdataset import WebDatasetExport, export_webdataset
from dataengine.store.store import open_store
from dataengine.video.fit import Size
from pipelines.commands.materializing import known_fit, parse_size
from pipelines.commands.printing import Bar, count, print_json, size


def webdataset(
    address: str,
    dataset: str | None,
    out: str,
    picture_size: str | None,
    fit: str,
    by: str,
    clip_steps: int,
    quality: int,
    shard_mb: int,
    where: str | None,
    as_json: bool,
) -> None:
    """Write WebDataset archives."""
    if by not in ("step", "clip"):
        raise UsageError(f"--by {by!r}: must be step or clip")
    store = open_store(address)
    names = store.datasets()
    chosen = dataset or store.dataset or (names[0] if len(names) == 1 else None)
    if chosen is None:
        raise UsageError(f"{address}: holds {len(names)} datasets; name one with --dataset: {', '.join(names)}")
    shown = None if picture_size is None else Size(*parse_size(picture_size), known_fit(fit))
    bar = Bar("episodes")
    try:
        form = SampleForm("clip" if by == "clip" else "step", shown, quality, clip_steps)
        done = export_webdataset(store, out, WebDatasetExport(chosen, form, where, shard_mb << 20), bar)
    finally:
        bar.end()
    if as_json:
        print_json(done)
        return
    print(
        f"{count(done['episodes'], 'episode')} of {chosen} in {count(done['samples'], 'sample')}, {count(len(done['shards']), 'archive')} of {size(done['bytes'])}: {out}"
    )
    if done["left_out"]:
        print(f"left out, being neither numbers, texts nor pictures: {', '.join(done['left_out'])}")
