"""The data files of the catalog over its whole life: which commit added each, and which took it out. Read from the Delta log once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import unquote

import polars as pl

from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects, storage_options
from dataengine.store import layout

LOG = f"{layout.CATALOG}/_delta_log"
COMMIT_NAME = re.compile(r"\d{20}\.json")
READERS = 16


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of the catalog: its key, its partition, its recorded size, and the table versions between which it was in use, [added, removed)."""

    key: str
    kind: str
    dataset: str
    size: int
    added: int
    removed: int | None = None

    def used_at(self, version: int) -> bool:
        """Return whether the table at a version consists of this file among others."""
        return self.added <= version and (self.removed is None or version < self.removed)


def table_files(objects: Objects) -> tuple[list[DataFile], int]:
    """Return every data file that any commit added, in order of commit, and the table's newest version.

    Raises:
        CorruptStore: a commit of the log is missing or unreadable.
    """
    keys = [meta.key for meta in objects.list(LOG) if COMMIT_NAME.fullmatch(meta.key.rsplit("/", 1)[-1])]
    numbers = [int(key.rsplit("/", 1)[-1][:-5]) for key in keys]
    if numbers != list(range(len(numbers))) or not numbers:
        missing = next((number for number in range(len(numbers) + 1) if number not in set(numbers)), 0)
        raise CorruptStore(f"{objects.url}/{LOG}: expected every commit from 0 on, found none of number {missing}; restore it from a copy")
    found: dict[str, DataFile] = {}
    with ThreadPoolExecutor(READERS) as pool:
        for number, (key, content) in enumerate(zip(keys, pool.map(objects.get, keys), strict=True)):
            try:
                for line in content.splitlines():
                    _apply(json.loads(line), number, found)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorruptStore(f"{objects.url}/{key}: expected a commit of a Delta log, found something else ({error}); restore it from a copy") from error
    return list(found.values()), numbers[-1]


def _apply(action: dict[str, dict[str, object]], number: int, found: dict[str, DataFile]) -> None:
    if add := action.get("add"):
        partition = add["partitionValues"]
        assert isinstance(partition, dict)
        key = f"{layout.CATALOG}/{unquote(str(add['path']))}"
        found[key] = DataFile(key, str(partition["kind"]), str(partition["dataset"]), int(str(add["size"])), number)
    elif remove := action.get("remove"):
        key = f"{layout.CATALOG}/{unquote(str(remove['path']))}"
        found[key] = replace(found[key], removed=number)


def read_columns(objects: Objects, files: Iterable[DataFile], columns: Sequence[str]) -> pl.DataFrame:
    """Return columns of the rows of data files, with the columns `file`, `kind` and `dataset` that say where each stands; files that are gone are left out.

    Raises:
        CorruptStore: a file is no Parquet file.
    """
    parts = []
    for file in files:
        try:
            frame = pl.read_parquet(f"{objects.url}/{file.key}", columns=list(columns), storage_options=storage_options(objects), hive_partitioning=False)
        except FileNotFoundError:
            continue
        except pl.exceptions.PolarsError as error:
            raise CorruptStore(
                f"{objects.url}/{file.key}: expected a data file of the catalog, found something else ({error}); restore it from a copy"
            ) from None
        parts.append(frame.with_columns(file=pl.lit(file.key), kind=pl.lit(file.kind), dataset=pl.lit(file.dataset)))
    schema = {**dict.fromkeys(columns, pl.String), "file": pl.String, "kind": pl.String, "dataset": pl.String}
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)
