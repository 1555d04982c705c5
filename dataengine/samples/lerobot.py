"""Genuine LeRobot datasets of the sample world: v3.0 (many episodes a file), v2.1 and v2.0 (one a file), and the GR00T flavour.

The side files, paths, column types, row groups (one an episode) and ranges are those of the format; how many episodes go into a file is counted here
instead of by megabytes, for tables and for each camera on its own, so that their files do not run in step.

Source: FORMATS.md §1 to §3; `lerobot/datasets/{dataset_metadata,dataset_writer,feature_utils,language,depth_utils}.py`; Isaac-GR00T's `data_preparation.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import QPOS_NAMES, ArmRecording
from dataengine.samples.lerobot_video import DepthFilm, Film, grey_depth, write_depth_film, write_film
from dataengine.samples.pictures import encode_picture
from dataengine.samples.steps import ArmSteps, control_steps
from dataengine.video.depth import DepthCoding

LerobotVersion = Literal["v3.0", "v2.1", "v2.0"]

CHUNKS_SIZE = 1000
EE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw")
DEPTH_KEY = "observation.images.front_depth"


@dataclass(frozen=True)
class LerobotOptions:
    """How a dataset is written.

    Args:
        version: of the format.
        episodes_a_table: of one Parquet file (v3).
        episodes_a_video: of one video file, by camera; 2 where a camera is not named (v3).
        files_a_chunk: files of one chunk folder.
        pictures: cameras as video files, or as PNG inside the table.
        codec: of the video.
        depth: adds a depth camera, 12-bit grey HEVC.
        language: adds the columns language_persistent and language_events.
        gr00t: adds modality.json and annotation columns.
        robot_type: as info.json names it.
    """

    version: LerobotVersion = "v3.0"
    episodes_a_table: int = 3
    episodes_a_video: Mapping[str, int] = field(default_factory=dict)
    files_a_chunk: int = CHUNKS_SIZE
    pictures: Literal["video", "image"] = "video"
    codec: Literal["libx264", "libsvtav1"] = "libx264"
    depth: bool = False
    language: bool = False
    gr00t: bool = False
    robot_type: str = "sim_arm"

    @property
    def is_v3(self) -> bool:
        """Whether many episodes share a file."""
        return self.version.startswith("v3")


@dataclass(frozen=True, eq=False)
class _Episode:
    """One recording on its command clock."""

    index: int
    recording: ArmRecording
    steps: ArmSteps
    first: int

    def __len__(self) -> int:
        return len(self.steps)

    def images(self, camera: str) -> Array:
        """Return (T, H, W, 3) uint8: what a camera sees at each step."""
        return np.asarray(self.recording.cameras[camera].images[self.steps.frame[camera]])


def _placed(count: int, each: int, files_a_chunk: int) -> list[tuple[int, int]]:
    """Return the (chunk, file) of each of `count` episodes, `each` to a file."""
    numbers = [place // each for place in range(count)]
    return [(number // files_a_chunk, number % files_a_chunk) for number in numbers]


def write_lerobot(folder: Path, recordings: Sequence[ArmRecording], options: LerobotOptions | None = None) -> list[Path]:
    """Write recordings as one dataset; return its files.

    Raises:
        ValueError: no recordings, or several control rates.
    """
    options = options or LerobotOptions()
    rates = {recording.config.control_hz for recording in recordings}
    if len(rates) != 1:
        raise ValueError(f"recordings: must have one control rate, got {sorted(rates) or 'none'}")
    fps = rates.pop()
    episodes: list[_Episode] = []
    first = 0
    for index, recording in enumerate(recordings):
        episodes.append(_Episode(index, recording, control_steps(recording), first))
        first += len(episodes[-1])
    tasks = list(dict.fromkeys(recording.task for recording in recordings))
    if options.gr00t:
        tasks.append("valid")
    cameras = [f"observation.images.{name}" for name in recordings[0].cameras]
    features = _features(episodes[0], cameras, fps, options)
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    written = list(_tables(folder, episodes, tasks, fps, features, options))
    ranges: dict[str, list[dict[str, Any]]] = {}
    if options.pictures == "video":
        for camera in cameras:
            files, ranges[camera] = _films(folder, camera, episodes, fps, options)
            written += files
    if options.depth:
        files, ranges[DEPTH_KEY] = _films(folder, DEPTH_KEY, episodes, fps, options)
        written += files
    info = _info(episodes, tasks, fps, features, len(ranges), options)
    (meta / "info.json").write_text(json.dumps(info, indent=4))
    written += [meta / "info.json", *_side_files(meta, episodes, tasks, ranges, options)]
    return sorted(set(written))


def _features(episode: _Episode, cameras: Sequence[str], fps: float, options: LerobotOptions) -> dict[str, dict[str, Any]]:
    """Return the features in the order of info.json."""
    features: dict[str, dict[str, Any]] = {
        "observation.state": {"dtype": "float32", "shape": [len(QPOS_NAMES)], "names": list(QPOS_NAMES)},
        "observation.ee_pose": {"dtype": "float64", "shape": [7], "names": {"axes": list(EE_NAMES)}},
        "action": {"dtype": "float32", "shape": [len(QPOS_NAMES)], "names": {"motors": list(QPOS_NAMES)}},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
    }
    height, width = episode.recording.config.height, episode.recording.config.width
    for camera in cameras:
        picture: dict[str, Any] = {"dtype": options.pictures, "shape": [height, width, 3], "names": ["height", "width", "channels"]}
        if options.pictures == "video":
            codec = "av1" if options.codec == "libsvtav1" else "h264"
            facts = {"video.height": height, "video.width": width, "video.codec": codec, "video.pix_fmt": "yuv420p", "video.fps": _number(fps)}
            picture["info"] = {**facts, "video.channels": 3, "has_audio": False, "is_depth_map": False}
        features[camera] = picture
    if options.depth:
        coding = DepthCoding()
        facts = {"video.height": height, "video.width": width, "video.codec": "hevc", "video.pix_fmt": "gray12le", "video.fps": _number(fps)}
        quantised = {"video.depth_min": coding.min_m, "video.depth_max": coding.max_m, "video.shift": coding.shift_m, "video.use_log": coding.use_log}
        said = {**facts, **quantised, "video.channels": 1, "has_audio": False, "is_depth_map": True, "depth_unit": "m"}
        features[DEPTH_KEY] = {"dtype": "video", "shape": [height, width, 1], "names": ["height", "width", "channels"], "info": said}
    if options.language:
        features |= {name: {"dtype": "language", "shape": [1], "names": None} for name in ("language_persistent", "language_events")}
    if options.gr00t:
        features |= {f"annotation.human.{name}": {"dtype": "int64", "shape": [1], "names": None} for name in ("action.task_description", "validity")}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    return features | {name: {"dtype": "int64", "shape": [1], "names": None} for name in ("frame_index", "episode_index", "index", "task_index")}


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _columns(episode: _Episode, tasks: Sequence[str], fps: float, options: LerobotOptions) -> dict[str, Any]:
    """Return the values of one episode's rows by feature, without those that stand in video files."""
    steps, recording, count = episode.steps, episode.recording, len(episode)
    rows = np.arange(count)
    last = rows == count - 1
    task = tasks.index(recording.task)
    columns: dict[str, Any] = {
        "observation.state": steps.qpos.astype(np.float32),
        "observation.ee_pose": steps.ee_pose.astype(np.float64),
        "action": steps.action.astype(np.float32),
        "next.reward": steps.reward.astype(np.float32),
        "next.done": last,
        "next.success": last & recording.success,
    }
    if options.pictures == "image":
        for name in recording.cameras:
            data = [encode_picture(image, "png") for image in episode.images(name)]
            columns[f"observation.images.{name}"] = [{"bytes": picture, "path": f"frame-{row:06d}.png"} for row, picture in enumerate(data)]
    if options.language:
        columns["language_persistent"], columns["language_events"] = _language(episode, fps)
    if options.gr00t:
        columns["annotation.human.action.task_description"] = np.full(count, task)
        columns["annotation.human.validity"] = np.full(count, tasks.index("valid"))
    columns["timestamp"] = (rows / fps).astype(np.float32)
    return columns | {"frame_index": rows, "episode_index": np.full(count, episode.index), "index": rows + episode.first, "task_index": np.full(count, task)}


def _language(episode: _Episode, fps: float) -> tuple[list[Any], list[Any]]:
    """Return language that holds for the episode (the same list in each row), and what is said at single steps."""
    count = len(episode)
    half = float(np.float32((count // 2) / fps))
    blank = {"camera": None, "tool_calls": None}
    held = [
        {"role": "user", "content": episode.recording.task, "style": "task_aug", "timestamp": 0.0, **blank},
        {"role": "assistant", "content": "reach for the block", "style": "subtask", "timestamp": 0.0, **blank},
        {"role": "assistant", "content": f"place it: {episode.index}", "style": "subtask", "timestamp": half, **blank},
    ]
    said: list[Any] = [[] for _ in range(count)]
    said[count // 3] = [{"role": "user", "content": f"wait {episode.index}", "style": "interjection", **blank}]
    return [held] * count, said


def _arrow_types(options: LerobotOptions) -> dict[str, Any]:
    """Return the Arrow types of the columns whose values do not say theirs."""
    import pyarrow as pa

    entry = [("role", pa.string()), ("content", pa.string()), ("style", pa.string())]
    rest = [("camera", pa.string()), ("tool_calls", pa.list_(pa.string()))]
    return {
        "language_persistent": pa.list_(pa.struct([*entry, ("timestamp", pa.float32()), *rest])),
        "language_events": pa.list_(pa.struct([*entry, *rest])),
    }


def _arrow_column(name: str, values: Any, types: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    if name in types:
        return pa.array(values, types[name])
    if isinstance(values, list):
        return pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
    return pa.array(values)


def _tables(
    folder: Path, episodes: Sequence[_Episode], tasks: Sequence[str], fps: float, features: Mapping[str, Any], options: LerobotOptions
) -> Iterator[Path]:
    """Write the tables, one row group an episode, and yield their paths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = _arrow_types(options)
    places = _placed(len(episodes), options.episodes_a_table, options.files_a_chunk)
    writer: Any = None
    path = None
    for episode in episodes:
        if options.is_v3:
            chunk, file = places[episode.index]
            wanted = folder / "data" / f"chunk-{chunk:03d}" / f"file-{file:03d}.parquet"
        else:
            wanted = folder / "data" / f"chunk-{episode.index // CHUNKS_SIZE:03d}" / f"episode_{episode.index:06d}.parquet"
        values = _columns(episode, tasks, fps, options)
        table = pa.table({name: _arrow_column(name, values[name], types) for name in features if name in values})
        if wanted != path:
            if writer is not None:
                writer.close()
            wanted.parent.mkdir(parents=True, exist_ok=True)
            path = wanted
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": _hub_features(values, features)}})})
            writer = pq.ParquetWriter(path, table.schema, compression="snappy", use_dictionary=True)
            yield path
        writer.write_table(table.cast(writer.schema) if table.schema != writer.schema else table, row_group_size=max(1, len(table)))
    if writer is not None:
        writer.close()


def _hub_features(values: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the library `datasets` writes about the columns of numbers and pictures."""
    found: dict[str, Any] = {}
    for name, feature in features.items():
        if name not in values or feature["dtype"] == "language":
            continue
        single: dict[str, Any] = {"dtype": feature["dtype"], "_type": "Value"}
        size = feature["shape"][0]
        found[name] = (
            {"_type": "Image"} if feature["dtype"] == "image" else single if feature["shape"] == [1] else {"feature": single, "length": size, "_type": "List"}
        )
    return found


def _films(folder: Path, key: str, episodes: Sequence[_Episode], fps: float, options: LerobotOptions) -> tuple[list[Path], list[dict[str, Any]]]:
    """Write the videos of one camera; return them and, for v3, what the episodes' table says of each episode."""
    name = key.removeprefix("observation.images.")
    each = options.episodes_a_video.get(key, options.episodes_a_video.get(name, 2)) if options.is_v3 else 1
    places = _placed(len(episodes), each, options.files_a_chunk)
    paths: list[Path] = []
    ranges: list[dict[str, Any]] = []
    for start in range(0, len(episodes), each):
        group = episodes[start : start + each]
        chunk, file = places[start]
        if options.is_v3:
            path = folder / "videos" / key / f"chunk-{chunk:03d}" / f"file-{file:03d}.mp4"
        else:
            path = folder / "videos" / f"chunk-{start // CHUNKS_SIZE:03d}" / key / f"episode_{start:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if key == DEPTH_KEY:
            write_depth_film(path, DepthFilm([grey_depth(episode.images("front")) for episode in group], fps))
        else:
            write_film(path, Film([episode.images(name) for episode in group], fps, options.codec))
        paths.append(path)
        seconds = 0.0
        for episode in group:
            end = seconds + len(episode) / fps
            ranges.append({"chunk_index": chunk, "file_index": file, "from_timestamp": seconds, "to_timestamp": end})
            seconds = end
    return paths, ranges


def _info(episodes: Sequence[_Episode], tasks: Sequence[str], fps: float, features: Mapping[str, Any], cameras: int, options: LerobotOptions) -> dict[str, Any]:
    total = len(episodes)
    counts: dict[str, Any] = {
        "total_episodes": total,
        "total_frames": sum(len(episode) for episode in episodes),
        "total_tasks": len(tasks),
    }
    if options.is_v3:
        counts |= {"chunks_size": options.files_a_chunk, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
        data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    else:
        counts |= {"total_videos": total * cameras, "total_chunks": -(-total // CHUNKS_SIZE), "chunks_size": CHUNKS_SIZE}
        data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    return {
        "codebase_version": options.version,
        "fps": _number(fps),
        "features": dict(features),
        **counts,
        "data_path": data,
        "video_path": video if cameras else None,
        "robot_type": options.robot_type,
        "splits": {"train": f"0:{total}"},
    }


def _side_files(meta: Path, episodes: Sequence[_Episode], tasks: Sequence[str], ranges: Mapping[str, Any], options: LerobotOptions) -> Iterator[Path]:
    """Write the lists of tasks and episodes, and yield their paths."""
    listed = {episode.index: [episode.recording.task, *(["valid"] if options.gr00t else [])] for episode in episodes}
    if options.gr00t:
        (meta / "modality.json").write_text(json.dumps(_modality(ranges), indent=4))
        yield meta / "modality.json"
    if not options.is_v3:
        lines = [json.dumps({"task_index": number, "task": task}) for number, task in enumerate(tasks)]
        (meta / "tasks.jsonl").write_text("".join(f"{line}\n" for line in lines))
        lines = [json.dumps({"episode_index": episode.index, "tasks": listed[episode.index], "length": len(episode)}) for episode in episodes]
        (meta / "episodes.jsonl").write_text("".join(f"{line}\n" for line in lines))
        yield from (meta / "tasks.jsonl", meta / "episodes.jsonl")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = {"index_columns": ["task"], "column_indexes": [], "columns": [], "creator": {"library": "pyarrow", "version": ""}, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(index)}), meta / "tasks.parquet")
    yield meta / "tasks.parquet"
    places = _placed(len(episodes), options.episodes_a_table, options.files_a_chunk)
    columns: dict[str, Any] = {
        "episode_index": [episode.index for episode in episodes],
        "tasks": [listed[episode.index] for episode in episodes],
        "length": [len(episode) for episode in episodes],
        "data/chunk_index": [chunk for chunk, _ in places],
        "data/file_index": [file for _, file in places],
        "dataset_from_index": [episode.first for episode in episodes],
        "dataset_to_index": [episode.first + len(episode) for episode in episodes],
    }
    for key, found in ranges.items():
        columns |= {f"videos/{key}/{name}": [entry[name] for entry in found] for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")}
    state = [episode.steps.qpos for episode in episodes]
    columns["stats/observation.state/min"] = [rows.min(axis=0).tolist() for rows in state]
    columns["stats/observation.state/max"] = [rows.max(axis=0).tolist() for rows in state]
    columns["stats/observation.state/count"] = [[len(rows)] for rows in state]
    columns |= {"meta/episodes/chunk_index": [0] * len(episodes), "meta/episodes/file_index": [0] * len(episodes)}
    path = meta / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="snappy")
    yield path


def _modality(ranges: Mapping[str, Any]) -> dict[str, Any]:
    arm, gripper = {"start": 0, "end": 4}, {"start": 4, "end": 5}
    pose = {"start": 0, "end": 7, "original_key": "observation.ee_pose", "rotation_type": "quaternion", "absolute": True}
    return {
        "state": {"arm": arm, "gripper": gripper, "hand_pose": pose},
        "action": {"arm": {**arm, "absolute": True}, "gripper": {**gripper, "absolute": True}},
        "video": {key.rpartition(".")[2]: {"original_key": key} for key in ranges},
        "annotation": {"human.action.task_description": {"original_key": "task_index"}, "human.validity": {}},
    }
