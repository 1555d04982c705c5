"""Raw logs as Parquet with the side-car that explains them: several episodes in a table, pictures in it and films beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.samples.json_mp4 import arm_rows
from dataengine.samples.numbered_film import numbered_frames, write_numbered_film
from dataengine.samples.pictures import encode_picture

EPOCH_S = 1_700_000_000
MAPPING = """\
episode: run
time: {column: stamp, unit: s, epoch: true}
clocks: {log: {column: log_ns, unit: ns}}
task: instruction
success: done
streams:
  observation.state: {columns: [q0, q1, q2, q3, q4, q5, q6], unit: rad, meaning: state, action_space: {kind: joint_position, absolute: true}}
  action: {columns: [target], meaning: action, dims: [x, y, z, roll, pitch, yaw], action_space: {kind: ee_pose, rotation: rpy, frame: base, absolute: true}}
  observation.images.front: {image: front.bytes, camera: primary}
  observation.images.wrist: {video: "films/{run}.mp4", frame: frame, camera: wrist}
follow: action
"""


@dataclass(frozen=True)
class ParquetLogOptions:
    """How a log is written.

    Args:
        lengths: rows of each episode.
        rows_in_group: of the file.
        gaps: rows of the first episode whose state is null.
        films: writes the films that the rows name.
        mapping: the side-car; None for none.
    """

    lengths: tuple[int, ...] = (12, 9)
    rows_in_group: int = 8
    gaps: tuple[int, ...] = ()
    films: bool = True
    mapping: str | None = MAPPING


def table_of(options: ParquetLogOptions) -> Any:
    """Return the log as an Arrow table; row k of an episode shows frame k + 1 of its film."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in ("run", "stamp", "log_ns", "instruction", "done", *(f"q{joint}" for joint in range(7)))}
    columns |= {"target": [], "front": [], "frame": [], "battery": []}
    for number, rows in enumerate(options.lengths):
        motion = arm_rows(rows, number)
        pictures = numbered_frames(rows, 0, number, 40, 64)
        for row in range(rows):
            stamp_s = EPOCH_S + 100 * number + row / 8  # eighths of a second: exact in float64
            columns["run"].append(f"run_{number}")
            columns["stamp"].append(stamp_s)
            columns["log_ns"].append(int(stamp_s * 8) * 125_000_000 + 1_234_567)
            columns["instruction"].append("stack the blocks" if number == 0 else "open the box")
            columns["done"].append(row == rows - 1 and number == 0)
            for joint in range(7):
                value = None if number == 0 and row in options.gaps and joint == 3 else np.float32(motion["joints"][row, joint])
                columns[f"q{joint}"].append(value)
            columns["target"].append(motion["pose"][row].tolist())
            columns["front"].append({"bytes": encode_picture(pictures[row], "jpeg"), "width": 64})
            columns["frame"].append(row + 1)
            columns["battery"].append(200 - row if row % 2 == 0 else None)
    types = {**{f"q{joint}": pa.float32() for joint in range(7)}, "target": pa.list_(pa.float64()), "frame": pa.int32(), "battery": pa.uint8()}
    return pa.table({name: pa.array(values, type=types.get(name)) for name, values in columns.items()})


def write_parquet_log(folder: Path, options: ParquetLogOptions | None = None, name: str = "arm") -> Path:
    """Write `<name>.parquet`, its mapping and its films; return the table's path."""
    import pyarrow.parquet as pq

    options = options or ParquetLogOptions()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pq.write_table(table_of(options), path, row_group_size=options.rows_in_group)
    if options.mapping is not None:
        (folder / f"{name}.mapping.yaml").write_text(options.mapping)
    for number, rows in enumerate(options.lengths) if options.films else ():
        write_numbered_film(folder / "films" / f"run_{number}.mp4", numbered_frames(rows + 2, 1, number))
    return path
