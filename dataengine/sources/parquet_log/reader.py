"""Parquet logs with a side-car that explains their columns: rows in time order, one episode or many in a file.

A Parquet file without a mapping is nobody's: what its columns mean would have to be guessed. Tables of a LeRobot dataset are left to its reader.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from posixpath import basename, dirname, splitext
from typing import Any

from dataengine.core.clock import ClockKind
from dataengine.core.episode import EpisodeInfo, Event, Noticed, Rejected
from dataengine.core.errors import BadRecording, ConfigError, printable
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.parquet_log.episode import TIME, RunningEpisode, sources_of
from dataengine.sources.parquet_log.films import films_below, named_films, unnamed_films
from dataengine.sources.parquet_log.mapping import FOLDER_FILE, FOLDER_KEY, HOW_TO, SIDE_CAR_ENDS, LogMapping, parse_mapping, require_columns
from dataengine.sources.parquet_log.values import flattened, guarded, leaf, runs, times_ns

NAME = "parquet_log"
VERSION = "2"
RECOGNISED_BY = "a Parquet file with a mapping: <stem>.mapping.yaml or .json beside it, `parquet_log` in a dataengine.yaml of its folder or above, or in the job's configuration"
KEEPS = (
    "each mapped column as a stream with its dtype (lists as vectors, pictures as their bytes, films as their files), all named clocks, the other columns as "
    "streams of their own; null rows are gaps of their stream, and said. Not kept: maps, decimals, lists of texts"
)

MAGIC = b"PAR1"
MAX_SIDE_CAR_BYTES = 1 << 20
MAX_ROWS = 1 << 40
MAX_GROUP_BYTES = 4 << 30
MAX_FOOTER_BYTES = 64 << 20
MAX_EPISODES = 1_000_000
BATCH_ROWS = 4096
_SPLITS = frozenset(["train", "val", "valid", "validation", "test"])


def _in_lerobot(listing: Listing, path: str) -> bool:
    """Return whether a file belongs to a LeRobot dataset: a folder above it has `meta/info.json`."""
    folder = dirname(path)
    while True:
        if f"{folder}/meta/info.json".lstrip("/") in listing.files:
            return True
        if not folder:
            return False
        folder = dirname(folder)


def _side_car(listing: Listing, path: str) -> str | None:
    """Return the mapping of a file: beside it, else of its folder or the nearest above that has one."""
    stem = splitext(path)[0]
    for end in SIDE_CAR_ENDS:
        if stem + end in listing.files:
            return stem + end
    folder = dirname(path)
    while True:
        candidate = f"{folder}/{FOLDER_FILE}".lstrip("/")
        if candidate in listing.files and FOLDER_KEY.encode() in listing.head(candidate, MAX_SIDE_CAR_BYTES):
            return candidate
        if not folder:
            return None
        folder = dirname(folder)


def find(listing: Listing) -> Found:
    """Claim Parquet files that have a mapping beside them."""
    return find_asked(listing, {}, False)


def find_asked(listing: Listing, config: Mapping[str, Any], asked: bool) -> Found:
    """Claim Parquet files that have a mapping.

    Args:
        listing: the source.
        config: the job's choices for this reader; its `mapping` holds for files that have none of their own.
        asked: whether the user asked for this format: a file without a mapping is then claimed and rejected, with what to do.
    """
    items: list[Item] = []
    claimed: set[str] = set()
    parsed: dict[str, dict[str, Any]] = {}
    logs: dict[str, int] = {}
    for path in listing.files:
        if not path.lower().endswith((".parquet", ".pq")) or listing.head(path)[:4] != MAGIC or _in_lerobot(listing, path):
            continue
        side_car = _side_car(listing, path)
        if side_car is not None and side_car not in parsed:
            parsed[side_car] = _parsed(listing, side_car)
        extra = parsed[side_car] if side_car is not None else {"mapping": config["mapping"]} if config.get("mapping") else {}
        if not extra and not asked:
            continue
        films: list[str] = []
        if "mapping" in extra:
            films = films_below(listing.files, dirname(path), _stem(path), LogMapping.model_validate_json(_json(extra["mapping"])))
        used = [path, *([side_car] if side_car else []), *films]
        claimed.update(used)
        splits = tuple(part for part in path.split("/")[:-1] if part.lower() in _SPLITS)[-1:]
        items.append(Item(NAME, listing.root, path, dataset_from_path(listing.name, path), tuple(listing.files[name] for name in used), splits, None, extra))
        for film in films:
            logs[film] = logs.get(film, 0) + 1
    shared = {film for film, count in logs.items() if count > 1}
    items = [replace(item, extra={**item.extra, "shared": True}) if any(file.path in shared for file in item.files) else item for item in items]
    return Found(items, frozenset(claimed))


def _stem(path: str) -> str:
    return splitext(basename(path))[0]


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _parsed(listing: Listing, side_car: str) -> dict[str, Any]:
    """Return what an item is handed of a side-car: the mapping, or why there is none."""
    try:
        text = listing.read_bytes(side_car, MAX_SIDE_CAR_BYTES).decode("utf-8-sig")
        return {"mapping": parse_mapping(text, side_car).model_dump(mode="json"), "side_car": side_car}
    except (BadRecording, ConfigError, UnicodeDecodeError) as error:
        return {"error": str(error), "side_car": side_car}


def _mapping(item: Item) -> LogMapping:
    if "error" in item.extra:
        raise BadRecording(item.extra["side_car"], "a mapping as it is documented", item.extra["error"][:1000], "correct it", check="bad_mapping")
    if "mapping" not in item.extra:
        raise BadRecording(item.path, "a mapping that says what the columns mean", "none", HOW_TO, check="no_mapping")
    return LogMapping.model_validate_json(_json(item.extra["mapping"]))


def _open(files: Opener, item: Item) -> Any:
    """Return the open table, whose declarations have been looked at."""
    import pyarrow.parquet

    size = next((file.size for file in item.files if file.path == item.path), 0)
    with files.open(item.path) as handle:
        handle.seek(max(size - 8, 0))
        tail = handle.read(8)
    footer = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or footer > min(size, MAX_FOOTER_BYTES):
        raise BadRecording(item.path, "a Parquet file with its footer", "one that was cut off, or an absurd footer", "make the copy again", check="truncated")
    with guarded(item.path):
        table = pyarrow.parquet.ParquetFile(files.open(item.path), pre_buffer=False, memory_map=False)
        meta = table.metadata
        groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
        largest = max((group.total_byte_size for group in groups), default=0)
        rows = [group.num_rows for group in groups]
    if largest > MAX_GROUP_BYTES or largest < 0 or min(rows, default=0) < 0 or sum(rows) > MAX_ROWS or sum(rows) != meta.num_rows:
        found = f"{meta.num_rows} rows, row groups of up to {largest} bytes"
        raise BadRecording(item.path, f"row groups of at most {MAX_GROUP_BYTES} bytes", found, "write it in smaller row groups", check="absurd_size")
    return table


def _batches(table: Any, columns: list[str], where: str) -> Iterator[Any]:
    batches = table.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False)
    while True:
        with guarded(where):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _interleaved(table: Any, column: str, where: str) -> set[Any]:
    """Return the episodes whose rows do not stand together."""
    seen: set[Any] = set()
    twice: set[Any] = set()
    last: list[Any] = []
    for batch in _batches(table, [column], where):
        with guarded(where):
            for _, _, value in runs(leaf(batch, column)):
                if last and last[0] == value:
                    continue
                if value in seen:
                    twice.add(value)
                seen.add(value)
                last = [value]
        if len(seen) > MAX_EPISODES:
            raise BadRecording(where, f"at most {MAX_EPISODES} episodes", "more", "check which column is `episode`", check="absurd_size")
    return twice


def _require_times(mapping: LogMapping, leaves: Mapping[str, Any], where: str) -> None:
    """Raise BadRecording where a clock's column is of a type that holds no times: then the mapping is wrong, not one episode."""
    import pyarrow

    for clock in (mapping.time, *mapping.clocks.values()):
        if clock is not None:
            kind = leaves[clock.column]
            with guarded(where):
                none = pyarrow.array([], kind.value_type if pyarrow.types.is_dictionary(kind) else kind)
            times_ns(none, clock.unit, f"{where}: {clock.column}")


def _without_gapped_clocks(table: Any, mapping: LogMapping, where: str, problems: list[Problem]) -> LogMapping:
    """Return the mapping without those clocks beside the main one that lack a time in some row: such a column is kept as numbers."""
    gapped = set()
    for batch in _batches(table, sorted({clock.column for clock in mapping.clocks.values()}), where) if mapping.clocks else ():
        with guarded(where):
            gapped |= {name for name, clock in mapping.clocks.items() if leaf(batch, clock.column).null_count}
    for name in sorted(gapped):
        message = f"{where}: the clock {name!r} lacks a time in some rows: its column is kept as numbers, not as a clock"
        problems.append(Problem("clock_with_gaps", message, where))
    kept = {name: clock for name, clock in mapping.clocks.items() if name not in gapped}
    return mapping.model_copy(update={"clocks": kept})


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read the episodes of one log.

    With a time the clock is measured. Without one it is nominal where the mapping, the dataset's description or the user says a rate, else unknown.

    Raises:
        BadRecording: no mapping or one that is wrong, a damaged table, times that are none.
    """
    mapping = _mapping(item)
    table = _open(files, item)
    try:
        with guarded(item.path):
            leaves = dict(flattened(table.schema_arrow))
        require_columns(mapping, list(leaves), item.extra.get("side_car", item.path))
        problems: list[Problem] = []
        mapping = _without_gapped_clocks(table, mapping, item.path, problems)
        sources = sources_of(mapping, leaves, problems, item.path)
        _require_times(mapping, leaves, item.path)
        yield from (Noticed(problem) for problem in problems)
        broken = _interleaved(table, mapping.episode, item.path) if mapping.episode else set()
        yield from _episodes(item, files, options, mapping, table, sources, leaves, broken)
    except ConfigError as error:
        raise BadRecording(item.extra.get("side_car", item.path), "columns of the table", str(error)[:1000], "correct it", check="bad_mapping") from error
    finally:
        table.close(force=True)


def _episodes(
    item: Item, files: Opener, options: ReadOptions, mapping: LogMapping, table: Any, sources: list[Any], leaves: Mapping[str, Any], broken: set[Any]
) -> Iterator[Event]:
    used = {column for source in sources for column in source.columns} | set(mapping.sources())
    folder, stem = dirname(item.path), _stem(item.path)
    running: RunningEpisode | None = None
    value: Any = None
    refused = False
    named: set[str] = set()
    for batch in _batches(table, sorted(used), item.path):
        found = [(0, batch.num_rows, None)]
        if mapping.episode:
            with guarded(item.path):
                found = list(runs(leaf(batch, mapping.episode)))
        for start, stop, said in found:
            if running is None or said != value:
                if running is not None and not refused:
                    yield from _or_rejected(running, _ended(item, files, options, running))
                running, value = RunningEpisode(printable(str(said)) if mapping.episode else "", item.path, mapping, sources, leaves, stem), said
                refused = said in broken or (mapping.episode is not None and said is None)
                if said is None and mapping.episode:
                    yield Noticed(Problem("rows_without_episode", f"{item.path}: rows without a value in {mapping.episode!r} are in no episode", item.path))
            rows = batch.slice(start, stop - start)
            with guarded(item.path):
                named |= named_films(mapping, rows, running.key, folder, stem)
            if not refused:
                refused = yield from _or_rejected(running, running.take(rows))
    if running is not None and not refused:
        yield from _or_rejected(running, _ended(item, files, options, running))
    for said in sorted(map(str, broken)):
        message = f"{item.path}: the rows of episode {printable(said)!r} do not stand together; sort the log by {mapping.episode!r}"
        yield Rejected(printable(said), Problem("interleaved_episode", message, item.path, "error"))
    if running is None:
        raise BadRecording(item.path, "rows", "none", "check that the log was closed", check="no_rows")
    yield from (Noticed(problem) for problem in unnamed_films(item, named, bool(item.extra.get("shared"))))


def _or_rejected(running: RunningEpisode, events: Iterator[Event]) -> Generator[Event, None, bool]:
    """Yield an episode's events; where it turns out to be broken, reject it alone and return True.

    Raises:
        BadRecording: the log is one episode, so there is nothing else in it to go on with.
    """
    try:
        yield from events
    except BadRecording as error:
        if running.mapping.episode is None:
            raise
        message = f"episode {running.key!r}: {error}"
        yield Rejected(running.key, Problem(error.check, message, error.where, "error", error.expected, error.found, error.advice))
        return True
    return False


def _ended(item: Item, files: Opener, options: ReadOptions, running: RunningEpisode) -> Iterator[Event]:
    mapping, problems = running.mapping, list[Problem]()
    clocks: dict[str, str] = {}
    for rows, clock in running.kept_films(files, dirname(item.path), problems):
        if clock is not None and mapping.time is not None:
            clocks[rows.stream] = clock
            running.starts.append(int(rows.clocks[clock].min()))
        yield rows
    if not running.columns:
        why = "; ".join(problem.message for problem in (*problems, *running.problems()))[:1000]
        message = f"{item.path}: no row of episode {running.key!r} has a value and a time{f': {why}' if why else ''}"
        yield Rejected(running.key, Problem("no_rows", message, item.path, "error"))
        return
    columns = running.ended_columns()
    if mapping.time is not None:
        clocks |= {name: TIME for name in columns if name in {source.name for source in running.sources}}
    rate_hz = mapping.rate_hz or options.description.get("rate_hz") or options.rate_hz
    clock_kind: ClockKind = "measured" if clocks else "nominal" if rate_hz else "unknown"
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=columns,
        clock=clock_kind,
        key=running.key,
        stream_clocks=clocks,
        start_ns=min(running.starts, default=0),
        epoch=bool(mapping.time and mapping.time.epoch),
        rate_hz=mapping.rate_hz if clocks else rate_hz,
        follow=mapping.follow if mapping.follow in columns else None,
        tasks=tuple(running.tasks),
        success=running.success,
        splits=item.splits,
        embodiment=mapping.embodiment or options.description.get("embodiment"),
        origin=mapping.origin,
        licence=mapping.licence,
        metadata={"format": "parquet_log", "mapping": item.extra.get("side_car", "the job's configuration")},
        problems=(*problems, *running.problems()),
    )
