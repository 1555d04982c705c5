"""Looking for bytes in everything that a store holds: in its files as they lie, and in what Parquet, Zarr and JSON hold inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import zarr


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (place, bytes) of all that lies below a store: each file as it is, each Parquet column and Zarr array decoded, each JSON text without escapes."""
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        place = path.relative_to(root).as_posix()
        yield place, path.read_bytes()
        if path.suffix == ".json":
            for line in path.read_text().splitlines() if "_delta_log" in place else [path.read_text()]:
                yield f"{place} as text", json.dumps(json.loads(line), ensure_ascii=False).encode()
        elif path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            yield f"{place} schema", json.dumps({key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}).encode()
            for name in table.column_names:
                values = table[name].to_pylist()
                yield f"{place} {name}", repr(values).encode()
                flat = [number for value in values for number in (value if isinstance(value, list) else [value]) if isinstance(number, float)]
                yield f"{place} {name} as float64", np.array(flat, dtype="<f8").tobytes()
    for path in sorted(root.rglob("zarr.json")):
        if json.loads(path.read_text())["node_type"] == "array":
            array = np.asarray(zarr.open_array(path.parent, mode="r")[...])
            yield path.parent.relative_to(root).as_posix(), array.tobytes()


def found_in(root: Path, needles: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Return for each needle that is somewhere in a store the places."""
    found: dict[str, list[str]] = {}
    for place, data in contents(root):
        for name, needle in needles.items():
            if needle in data:
                found.setdefault(name, []).append(place)
    return found
