"""Every path of the format, so that no other file spells one out."""

from __future__ import annotations

from urllib.parse import quote

FORMAT = "dataengine-store"
FORMAT_VERSION = 1

STORE = "store.json"
CATALOG = "catalog"
VERSIONS = "versions"
TAGS = "tags"
JOBS = "jobs"
DATASETS = "datasets"
MEDIA = "media"
STREAMS = "streams"
STEPS = "steps"
LABELS = "labels"
REMOVED = "removed"
STATISTICS = "statistics"
VERDICTS = "verdicts"

ARRAYS = "arrays.zarr"
VIDEOS = "videos"
INDEX = "index.parquet"
SHARD = "shard.json"
LABEL_FILE = "labels.parquet"


def version_key(number: int) -> str:
    """Return the key of a version file."""
    return f"{VERSIONS}/{number}.json"


def tag_key(name: str) -> str:
    """Return the key of a tag file."""
    return f"{TAGS}/{name}.json"


def job_key(job: str) -> str:
    """Return the key of a job's heartbeat."""
    return f"{JOBS}/{job}.json"


def features_key(dataset: str, digest: str) -> str:
    """Return the key of a feature specification."""
    return f"{DATASETS}/{dataset}/{digest}.json"


def media_key(digest: str, extension: str) -> str:
    """Return the key of a kept video file."""
    return f"{MEDIA}/{digest}.{extension}"


def media_index_key(media: str) -> str:
    """Return the key of the frame index that belongs to a kept or an encoded video."""
    return f"{media.rsplit('.', 1)[0]}.index.parquet"


def shard_prefix(dataset: str, shard: str) -> str:
    """Return the folder of a shard's native streams."""
    return f"{STREAMS}/{dataset}/{shard}"


def steps_key(dataset: str, shard: str) -> str:
    """Return the key of a shard's trajectories."""
    return f"{STEPS}/{dataset}/{shard}.parquet"


def statistics_key(version: int, dataset: str, digest: str) -> str:
    """Return the key of the statistics of a version's dataset under settings of that digest."""
    return f"{STATISTICS}/{version}/{dataset}/{digest}.json"


def verdict_key(label_set: str, version: int, digest: str) -> str:
    """Return the key of a verdict on a label set as a version has it, under settings of that digest."""
    return f"{VERDICTS}/{label_set}/{version}/{digest}.json"


def label_prefix(label_set: str, shard: str) -> str:
    """Return the folder of a shard of labels; a label's address is `<shard>/<row group>`."""
    return f"{LABELS}/{label_set}/{shard}"


def node_name(stream: str) -> str:
    """Return a stream's name as one path segment and Zarr node name, reversibly: other characters than [A-Za-z0-9._-] become %XX.

    A leading "." or "_" is quoted too, since Zarr keeps such names for itself.
    """
    name = quote(stream, safe="")
    if name[0] in "._":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return name
