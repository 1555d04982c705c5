"""Video files with optional captions beside them: one file is one recording, its bytes are kept whatever the codec."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from posixpath import basename, dirname, splitext
from typing import Any, get_args

from dataengine.core.episode import EpisodeInfo, Event, Noticed, Origin
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.names import dataset_from_path, slug
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.cut_video import VideoTrack, distinct_names, episodes_of_video
from dataengine.sources.cuts import episode_rule
from dataengine.sources.gopro.telemetry import Telemetry, may_have_telemetry
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, frame_column, repeated_times
from dataengine.sources.side_cars import read_side_cars, read_subtitles, tables_beside, time_unit
from dataengine.video.container import HEAD_BYTES, sniff
from dataengine.video.index import FrameIndex
from dataengine.video.probe import MediaInfo, TrackInfo

NAME = "video"
VERSION = "1.2.0"
RECOGNISED_BY = (
    "content of MP4, MOV, MKV, WebM, AVI or MPEG-TS, whatever the file's extension; captions: <stem>.txt, <stem>.json, "
    '<stem>.srt, <stem>.vtt beside it, or a JSON file {"<file name>": "<caption>", ...} in its folder or above; tables of poses, inertial samples '
    "and narrations: <stem>.csv, <stem>.jsonl, <stem>.json, <stem>_<word>.csv, by the names of their columns"
)
KEEPS = (
    "the file's own bytes (sound, subtitles and other tracks included), every frame's true time and place, captions as tasks, tables beside it and the telemetry of a "
    "GoPro as streams on their own clocks; the origin is human_video unless the config says otherwise"
)

# Claimed by name only, so that a damaged video is reported and not passed over. `.ts` is not among them: most of those are TypeScript.
VIDEO_EXTENSIONS = frozenset([".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"])

# Sound in a container that also holds video.
AUDIO_EXTENSIONS = frozenset([".m4a", ".m4b", ".mka", ".weba", ".aac"])

CAPTION_EXTENSIONS = (".txt", ".json")
SUBTITLE_EXTENSIONS = (".srt", ".vtt")
CAPTION_KEYS = ("caption", "text", "task", "instruction", "language_instruction")

DEFAULT_ORIGIN: Origin = "human_video"
ORIGINS: tuple[str, ...] = get_args(Origin)

MAX_CAPTION_FILE_BYTES = 1 << 20
MAX_CAPTION_LETTERS = 4000
MAX_MAPPING_BYTES = 64 << 20

_MAPPING_START = re.compile(rb'\s*\{\s*"[^"\\]{1,300}\.(?:mp4|m4v|mov|mkv|webm|avi)"\s*:\s*"', re.IGNORECASE)

# Handler names that muxers write of their own accord.
_GENERIC_HANDLERS = frozenset(["", "video", "videohandler", "video-media-handler", "core-media-video", "vide", "mainconcept-video-media-handler"])


def _is_video(listing: Listing, path: str, size: int) -> bool:
    return splitext(path)[1].lower() in VIDEO_EXTENSIONS or _shows_video(listing, path, size)


def _shows_video(listing: Listing, path: str, size: int) -> bool:
    """Return whether the content, not the name, is that of a video."""
    if splitext(path)[1].lower() in AUDIO_EXTENSIONS or size == 0:
        return False
    head = listing.head(path)
    if head[:1] == b"\x47":  # MPEG-TS shows itself by its second and third packet only
        head = listing.head(path, HEAD_BYTES)
    return sniff(head) is not None


@dataclass(frozen=True)
class _Captions:
    """A file that maps names of videos to captions."""

    path: str
    texts: Mapping[str, str]
    used: set[str] = field(default_factory=set)

    def of(self, video: str) -> str | None:
        """Return the caption of a video that lies in the same folder or below, by its path from there or its bare name."""
        folder = dirname(self.path)
        for key in (video[len(folder) + 1 :] if folder else video, basename(video)):
            if key in self.texts:
                self.used.add(key)
                return self.texts[key]
        return None


def _folders_above(path: str) -> Iterator[str]:
    """Yield a file's folder and all above it up to the root ("")."""
    folder = dirname(path)
    while folder:
        yield folder
        folder = dirname(folder)
    yield ""


def _mappings(listing: Listing, videos: Iterable[str], problems: list[Problem]) -> dict[str, list[_Captions]]:
    """Return the caption files by the folder they lie in, of the folders that hold videos or lie above one."""
    folders = {folder for video in videos for folder in _folders_above(video)}
    found: dict[str, list[_Captions]] = {}
    for path in listing.files:
        if dirname(path) not in folders or not path.lower().endswith(".json") or not _MAPPING_START.match(listing.head(path, HEAD_BYTES)):
            continue
        try:
            content = json.loads(listing.read_bytes(path, MAX_MAPPING_BYTES))
            if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
                raise BadRecording(path, "a mapping of file names to captions", "other values in it", "write each caption as text")
        except (BadRecording, ValueError, RecursionError) as error:
            problems.append(Problem("unreadable_captions", f"{path}: the captions cannot be read: {error}", where=path, advice="correct the file"))
            continue
        found.setdefault(dirname(path), []).append(_Captions(path, content))
    return found


def find(listing: Listing) -> Found:
    """Claim every video of a listing, by content, and the captions that belong to them."""
    paths = [path for path, file in listing.files.items() if _is_video(listing, path, file.size)]
    problems: list[Problem] = []
    mappings = _mappings(listing, paths, problems)
    tables, unknown = tables_beside(listing, paths)
    problems += unknown
    items, claimed = [], {captions.path for some in mappings.values() for captions in some}
    for path in paths:
        stem = splitext(path)[0]
        beside = [name for extension in (*CAPTION_EXTENSIONS, *SUBTITLE_EXTENSIONS) for name in (stem + extension, path + extension) if name in listing.files]
        beside = [name for name in beside if name not in claimed or splitext(name)[0] in (stem, path)]
        texts, sources = [], []
        for captions in (captions for folder in _folders_above(path) for captions in mappings.get(folder, ())):
            text = captions.of(path)
            if text is not None:
                texts.append(text)
                sources.append(captions.path)
                break
        used = list(dict.fromkeys([path, *(name for name in beside if name not in sources), *sources, *tables.get(path, ())]))
        claimed.update(used)
        items.append(
            Item(
                reader=NAME,
                root=listing.root,
                path=path,
                dataset=dataset_from_path(listing.name, path),
                files=tuple(listing.files[name] for name in used),
                recordings=1,
                extra={"captions": texts, "beside": [name for name in beside if name not in sources], "tables": tables.get(path, [])},
                by_name=not _shows_video(listing, path, listing.files[path].size),
            )
        )
    for captions in (captions for some in mappings.values() for captions in some):
        absent = sorted(captions.texts.keys() - captions.used)
        if absent:
            problems.append(
                Problem(
                    "captions_without_video",
                    f"{captions.path}: {len(absent)} of {len(captions.texts)} captions name videos that are not here, the first is {absent[0][:200]!r}",
                    where=captions.path,
                    severity="info",
                )
            )
    return Found(items, frozenset(claimed), problems)


def _texts_of(content: Any) -> list[str]:
    """Return the captions in a JSON side-car."""
    if not isinstance(content, dict):
        return []
    values = [content[key] for key in CAPTION_KEYS if key in content]
    return [text for value in values for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _read_beside(files: Opener, names: Iterable[str]) -> tuple[list[str], dict[str, Any], list[Problem]]:
    """Read the side-cars of one video: its captions, what else they say, and what is wrong with them."""
    texts: list[str] = []
    kept: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in names:
        try:
            text = files.read_bytes(name, MAX_CAPTION_FILE_BYTES).decode("utf-8-sig")
            if name.lower().endswith(".json"):
                kept[basename(name)] = json.loads(text)
                texts += _texts_of(kept[basename(name)])
            elif name.lower().endswith(SUBTITLE_EXTENSIONS) or len(text.strip()) > MAX_CAPTION_LETTERS:
                kept[basename(name)] = text
            else:
                texts.append(text)
        except (BadRecording, ValueError, RecursionError, OSError) as error:
            problems.append(Problem("unreadable_captions", f"{name}: the side-car cannot be read: {error}", where=name, advice="write it as UTF-8"))
    return texts, kept, problems


def _stream_names(tracks: Iterable[TrackInfo]) -> dict[int, str]:
    """Name the streams: "main" for one video track; for several their handlers where those tell them apart, else their numbers."""
    tracks = list(tracks)
    if len(tracks) == 1:
        return {tracks[0].index: "observation.images.main"}
    handlers = [slug(track.handler).replace(".", "-") for track in tracks]
    telling = len(set(handlers)) == len(handlers) and not _GENERIC_HANDLERS.intersection(handlers)
    return {track.index: f"observation.images.{handler if telling else f'track{track.index}'}" for track, handler in zip(tracks, handlers, strict=True)}


def _track_facts(track: TrackInfo) -> dict[str, Any]:
    facts: dict[str, Any] = {"index": track.index, "kind": track.kind, "codec": track.codec, "handler": track.handler, "language": track.language}
    if track.kind in ("video", "picture"):
        facts |= {"width": track.width, "height": track.height, "average_hz": None if track.average_hz is None else str(track.average_hz)}
    if track.kind == "audio":
        facts |= {"sample_hz": track.sample_hz, "channels": track.channels}
    return facts


def _frame_problems(name: str, videos: KeptVideos, index: FrameIndex, path: str) -> list[Problem]:
    """Say what is wrong with the frames of a track: times that do not rise, and a first picture that does not decode."""
    return [problem for problem in (repeated_times(name, index, path), videos.decodes(path, index)) if problem is not None]


def _origin(options: ReadOptions) -> Origin:
    value = options.config.get("origin", options.description.get("origin", DEFAULT_ORIGIN))
    for known in ORIGINS:
        if value == known:
            return known  # type: ignore[return-value]
    raise ConfigError(f"video: origin: must be one of {', '.join(ORIGINS)}, got {value!r}")


def _described(options: ReadOptions, key: str) -> str | None:
    value = options.description.get(key)
    return value if isinstance(value, str) else None


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one video file: its frames by reference, their times, and its captions.

    `options.config["origin"]` (else the description's, else "human_video") says who acts in it. The rate is that of the file where its frames keep one,
    else `options.rate_hz`; a variable rate has none. The clock is that of the container, whose first frame is the start.
    """
    origin = _origin(options)
    videos = KeptVideos(files)
    info, indexes = videos.tracks(item.path)
    names = _stream_names(info.videos)
    problems = [problem for track, index in indexes.items() for problem in _frame_problems(names[track], videos, index, item.path)]
    main = info.main
    assert main is not None
    beside = list(item.extra.get("beside", ()))
    shown = indexes[main.index]
    span_ns = int(shown.pts_ns[0]), int(shown.pts_ns[0]) + shown.duration_ns
    jsons = [name for name in beside if name.lower().endswith(".json")]
    cars = read_side_cars(files, item.path, item.extra.get("tables", ()), jsons, span_ns, time_unit(options))
    texts, kept, faults = _read_beside(files, [name for name in beside if name not in cars.read])
    cues = read_subtitles(files, [name for name in beside if name.lower().endswith(SUBTITLE_EXTENSIONS)])
    kept = {**kept, **cars.metadata}
    texts += [text for rest in cars.metadata.values() for text in _texts_of(rest)]
    problems += cars.problems
    for fault in faults:
        yield Noticed(fault)
    whole = _info(item, info, indexes, names, main.index, [*item.extra.get("captions", ()), *texts], kept, problems, origin, options)
    sides = list(cars.sides)
    if may_have_telemetry(info):
        telemetry = Telemetry(files, item.path)
        sides = distinct_names([*telemetry.sides(), *sides])
        whole = replace(whole, metadata={**whole.metadata, **telemetry.metadata}, problems=(*whole.problems, *telemetry.problems))
    tracks = [VideoTrack(names[track], item.path, index) for track, index in indexes.items()]
    yield from episodes_of_video(tracks, names[main.index], whole, files, episode_rule(options.config), sides, [*cars.segments, *cues])


def _info(
    item: Item,
    info: MediaInfo,
    indexes: Mapping[int, FrameIndex],
    names: Mapping[int, str],
    main: int,
    texts: Iterable[str],
    kept: Mapping[str, Any],
    problems: Iterable[Problem],
    origin: Origin,
    options: ReadOptions,
) -> EpisodeInfo:
    tasks = tuple(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
    metadata: dict[str, Any] = {"container": info.format, "duration_ns": info.duration_ns, "tracks": [_track_facts(track) for track in info.tracks]}
    if kept:
        metadata["side_cars"] = dict(kept)
    return EpisodeInfo(
        dataset=item.dataset,
        columns={names[track]: frame_column(names[track], index) for track, index in indexes.items()},
        clock="measured",
        stream_clocks=dict.fromkeys(names.values(), "pts"),
        start_ns=min(int(index.pts_ns[0]) for index in indexes.values()),
        rate_hz=constant_rate_hz(indexes[main]) or options.rate_hz,
        follow=names[main],
        tasks=tasks,
        splits=item.splits,
        embodiment=_described(options, "embodiment"),
        origin=origin,
        licence=_described(options, "licence"),
        consent=_described(options, "consent"),
        metadata=metadata,
        problems=tuple(problems),
    )
