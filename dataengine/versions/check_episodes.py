"""Every byte of an episode read again: digests, identity, trajectory, and whether what it says is plausible."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dataengine.core.column import Column
from dataengine.core.digest import digest_bytes, digest_json
from dataengine.core.problem import Problem
from dataengine.store.row import Row
from dataengine.store.steps import SAMPLED
from dataengine.store.store import Store
from dataengine.validate.episode import CheckInput, examine
from dataengine.versions.check_shards import ShardRows
from dataengine.versions.finding import SOURCE, UNREADABLE, finding, unreadable
from dataengine.versions.stored_content import ShardReader, StoredContent

KNOWN = "it was found when the episode landed; `dataengine show` tells more"


def check_streams(store: Store, shard: ShardRows, row: Row, entries: Sequence[dict[str, Any]], reader: ShardReader) -> list[Problem]:
    """Read every stream of an episode and check it against the digests in the index, and the episode against its id."""
    episode_id = str(row["episode_id"])
    try:
        columns = store.columns(row)
    except UNREADABLE as error:
        return [unreadable(f"{store.objects.url}: episode {episode_id}", "a feature document", error, SOURCE, episode_id)]
    problems: list[Problem] = []
    found: dict[str, StoredContent] = {}
    for entry in entries:
        where = f"{shard.where(shard.folder)}: stream {entry['stream']!r} of episode {episode_id}"
        try:
            content = reader.read(entry)
        except UNREADABLE as error:
            problems.append(unreadable(where, "the rows of a stream", error, SOURCE, episode_id))
            continue
        found[str(entry["stream"])] = content
        if content.digest is not None and content.digest != entry["digest"]:
            problems.append(finding("wrong_digest", where, f"content of digest {entry['digest']}", f"digest {content.digest}", SOURCE, episode_id))
    if len(found) == len(entries):
        problems += _identity(shard, row, entries, found, columns)
        problems += _plausible(store, row, found, columns)
    return problems


def _identity(
    shard: ShardRows, row: Row, entries: Sequence[dict[str, Any]], found: Mapping[str, StoredContent], columns: Mapping[str, Column]
) -> list[Problem]:
    """Recompute the episode's id: stream names, kinds, rows, digests, and clocks where they were measured."""
    content = []
    for entry in sorted(entries, key=lambda entry: str(entry["stream"])):
        name = str(entry["stream"])
        if name not in columns:
            continue  # metadata that was too large for a row stands beside the episode
        times = found[name].timestamps_ns
        measured = digest_bytes(times.astype("<i8").tobytes()) if row["clock"] == "measured" and times is not None else None
        content.append([name, columns[name].kind, found[name].rows, entry["digest"], measured])
    actual = digest_json(content)
    if actual == row["episode_id"]:
        return []
    where = f"{shard.where(shard.folder)}: episode {row['episode_id']}"
    return [finding("wrong_identity", where, f"content of id {row['episode_id']}", f"content of id {actual}", SOURCE, row["episode_id"])]


def _plausible(store: Store, row: Row, found: Mapping[str, StoredContent], columns: Mapping[str, Column]) -> list[Problem]:
    """Run the checks of an episode on what is stored, and name what was found at landing and cannot be found again."""
    inputs = {
        name: CheckInput(columns[name], content.timestamps_ns, content.numbers, content.rows, content.pictures)
        for name, content in found.items()
        if name in columns
    }
    findings = examine(store.episode_info({**row, "metadata": None}, columns), inputs)
    where = f"episode {row['episode_id']} of {row['dataset']}"
    again = [
        Problem(problem.check, problem.message, problem.where or where, problem.severity, problem.expected, problem.found, problem.advice, row["episode_id"])
        for problem in findings.problems
    ]
    return [*again, *flag_problems(row, {problem.check for problem in again})]


def flag_problems(row: Row, known: set[str] | frozenset[str] = frozenset()) -> list[Problem]:
    """Return what was found when the episode landed, by its flags, without those that are known already."""
    where = f"episode {row['episode_id']} of {row['dataset']}"
    return [
        finding(flag, where, "an episode without this fault", f"the flag {flag!r}", KNOWN, row["episode_id"], "warning")
        for flag in row["flags"] or ()
        if flag not in known
    ]


def check_trajectories(store: Store, shard: ShardRows, entries: Mapping[tuple[str, int], Sequence[dict[str, Any]]]) -> list[Problem]:
    """Read every trajectory with the checksums of its pages: right episode, steps counted from 0, frames and rows that exist."""
    where = shard.where(shard.steps)
    try:
        file = pq.ParquetFile(io.BytesIO(shard.objects.get(shard.steps)), page_checksum_verification=True)
    except UNREADABLE as error:
        return [unreadable(where, "the trajectories of the shard", error, SOURCE, shard.only)]
    problems: list[Problem] = []
    for row in shard.rows:
        episode_id, ordinal = str(row["episode_id"]), int(row["ordinal"])
        if ordinal >= file.num_row_groups:
            continue  # named by the check of the file
        place = f"{where}: row group {ordinal}"
        try:
            table = file.read_row_group(ordinal, use_threads=False)
            table.validate(full=True)
            ids, steps = set(table["episode_id"].to_pylist()), table["step"].to_numpy()
        except UNREADABLE as error:
            problems.append(unreadable(place, "a trajectory", error, SOURCE, episode_id))
            continue
        if ids - {episode_id}:
            problems.append(finding("other_episode", place, f"steps of {episode_id}", f"those of {', '.join(sorted(map(str, ids)))}", SOURCE, episode_id))
        if not np.array_equal(steps, np.arange(len(table))):
            problems.append(finding("steps_not_counted", place, "steps 0, 1, 2, …", f"{steps[:5].tolist()} …", SOURCE, episode_id))
        if episode_id not in shard.purged:
            problems += _rows_exist(place, episode_id, table, entries.get((episode_id, ordinal), ()))
    return problems


def _rows_exist(place: str, episode_id: str, table: Any, entries: Sequence[dict[str, Any]]) -> list[Problem]:
    """Check that frames and other rows which the steps name are rows of their streams."""
    problems = []
    for entry in entries:
        name, rows = str(entry["stream"]), int(entry["row_end"]) - int(entry["row_start"])
        if entry["kind"] == "array" or name not in table.column_names or name.endswith(SAMPLED):
            continue
        seen = table[name].drop_null().to_numpy()
        if len(seen) and seen.dtype.kind in "iu" and (int(seen.min()) < 0 or int(seen.max()) >= rows):
            found = f"rows {int(seen.min())} to {int(seen.max())}"
            problems.append(finding("no_such_row", f"{place}: column {name!r}", f"rows 0 to {rows - 1}", found, SOURCE, episode_id))
    return problems
