"""Egocentric-10K, Egocentric-100K and other WebDataset archives of video: `<name>.tar` with members `<stem>.mp4` and `<stem>.json`, kept inside the archive.

Each video is an episode whose bytes are a range of the archive: nothing is unpacked. Layout of the first two, as published on their data cards:
`factory_XXX/workers/worker_XXX/factoryXXX_workerXXX_partNN.tar`, beside it the worker's `intrinsics.json` (a fisheye lens: fx, fy, cx, cy, k1 to k4); JSON members hold
factory_id, worker_id, video_index, duration_sec, width, height, fps, size_bytes, codec. An archive of pictures is no recording and is left alone.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename, dirname, splitext
from typing import Any

from dataengine.core.column import Camera
from dataengine.core.episode import EpisodeInfo, Event, Noticed, Rejected
from dataengine.core.errors import BadRecording
from dataengine.core.names import dataset_from_path, slug
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.slices import open_slice
from dataengine.sources.camera_json import Lens, lenses
from dataengine.sources.cut_video import VideoTrack, episodes_of_video
from dataengine.sources.cuts import episode_rule
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, repeated_times
from dataengine.sources.webdataset.tar_members import BLOCK, Member, is_header, members
from dataengine.video.container import HEAD_BYTES, sniff
from dataengine.video.index import FrameIndex

NAME = "egocentric_tar"
VERSION = "1"
RECOGNISED_BY = "a tar archive (by its first header's checksum) whose first members are videos, or JSON and texts beside videos; intrinsics.json in its folder or the one above"
KEEPS = "each video's own bytes inside the archive, JSON members and factory and worker as metadata, captions as tasks, the lens; other members are not kept, and named"

VIDEOS = frozenset(["mp4", "mov", "m4v", "mkv", "webm", "avi"])
BESIDE = frozenset(["json", "txt"])
CAPTIONS = ("caption", "text", "task", "instruction", "language_instruction", "narration")
INTRINSICS = "intrinsics.json"
MAIN = "observation.images.main"
LOOK_BYTES = 4096  # of the start of an archive: the first members where they are small
MAX_JSON_BYTES = 4 << 20
FISHEYE = "fisheye"
GZIP = b"\x1f\x8b"
PACKED = (".tgz", ".tar.gz")
_CLIP = re.compile(r"factory_?(\d+)_worker_?(\d+)_(?:part)?(\d+)")


def _first_members(head: bytes) -> list[Member]:
    try:
        return [member for member in members(io.BytesIO(head), "", limit=len(head)) if not member.odd]
    except BadRecording:
        return []


def _unpacked_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(head, LOOK_BYTES * 4)
    except zlib.error:
        return b""


def _start(listing: Listing, path: str, size: int) -> tuple[bytes, bool]:
    """Return the first bytes of an archive and whether it is packed; none for what is no archive."""
    if path.lower().endswith(PACKED):
        return (_unpacked_head(listing.head(path, LOOK_BYTES)), True) if listing.head(path)[:2] == GZIP else (b"", True)
    if size < 2 * BLOCK or size % BLOCK or not is_header(listing.head(path, BLOCK)):
        return b"", False
    return listing.head(path, LOOK_BYTES), False


def _dataset(listing: Listing, path: str) -> str:
    """Name the dataset by the folder that holds the factories, else by the archive's folder."""
    folders = [listing.name, *path.split("/")[:-1]]
    for place, folder in enumerate(folders):
        if re.fullmatch(r"factory_?\d+", folder) and place:
            return dataset_from_path(folders[0], "/".join([*folders[1:place], "x"]))
    if folders[0].startswith("factory_"):
        return slug(folders[0])
    return dataset_from_path(listing.name, path)


def find(listing: Listing) -> Found:
    """Claim the archives of a listing that begin with videos; say what the others are."""
    items: list[Item] = []
    problems: list[Problem] = []
    claimed: set[str] = set()
    for path, file in listing.files.items():
        named = path.lower().endswith((".tar", *PACKED))
        head, packed = _start(listing, path, file.size)
        found = _first_members(head)
        kinds = [member.extension.rpartition(".")[2] for member in found]
        videos = any(kind in VIDEOS for kind in kinds)
        if not videos and (not found or not set(kinds) <= BESIDE):
            if named and found:
                shown = ", ".join(f"{kind or 'no extension'}" for kind in dict.fromkeys(kinds))
                message = f"{path}: an archive whose first members are of {shown}, not of video: it is no recording and is ignored"
                problems.append(Problem("archive_without_video", message, path, "info", advice="unpack it, if it holds recordings of another kind"))
            elif named and not packed:
                items.append(Item(NAME, listing.root, path, _dataset(listing, path), (file,), by_name=True))
            continue
        folders = [dirname(path), dirname(dirname(path))] if dirname(path) else [""]
        beside = next((place for folder in folders if (place := f"{folder}/{INTRINSICS}".lstrip("/")) in listing.files), None)
        claimed.add(path)
        files = [file]
        if beside is not None:
            claimed.add(beside)
            files.append(listing.files[beside])
        items.append(Item(NAME, listing.root, path, _dataset(listing, path), tuple(files), extra={"intrinsics": beside, "packed": packed}))
    return Found(items, frozenset(claimed), problems)


def _json(files: Opener, path: str, member: Member) -> Any:
    """Return what a JSON member holds; raise BadRecording."""
    where = f"{path}: {member.name}"
    if member.size > MAX_JSON_BYTES:
        raise BadRecording(where, f"JSON of at most {MAX_JSON_BYTES} bytes", f"{member.size}", check="too_large")
    with open_slice(files, path, (member.start, member.size)) as handle:
        data = handle.read(member.size)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadRecording(where, "JSON", str(error)[:200], "correct the member", check="unreadable_json") from error


def _read_lenses(files: Opener, path: str | None) -> tuple[list[Lens], Any, list[Problem]]:
    if path is None:
        return [], None, []
    try:
        content = json.loads(files.read_bytes(path, MAX_JSON_BYTES).decode("utf-8-sig"))
    except (BadRecording, ValueError, RecursionError) as error:
        return [], None, [Problem("unreadable_intrinsics", f"{path}: the intrinsics cannot be read: {error}"[:500], path, advice="correct the file")]
    found = list(lenses(content, FISHEYE))
    problems = []
    if not found:
        message = f"{path}: expected fx, fy, cx and cy, or a 3x3 matrix, found neither; the file is kept as metadata"
        problems.append(Problem("odd_intrinsics", message, path))
    return found, content, problems


def _camera(found: Sequence[Lens], worker: str, index: FrameIndex, where: str) -> tuple[Camera, list[Problem]]:
    """Return the camera of a video: the one lens of the file, or the one that stands under the worker's name."""
    digits = re.sub(r"\D", "", worker).lstrip("0")
    own = [lens for lens in found if digits and any(re.sub(r"\D", "", key).lstrip("0") == digits and "worker" in key.lower() for key in lens.path)]
    fitting = own if len(own) == 1 else list(found) if len(found) == 1 else []
    if not fitting:
        if not found:
            return Camera("egocentric"), []
        message = f"{where}: the file of intrinsics describes {len(found)} cameras, and not which of them made this video; none is used"
        return Camera("egocentric"), [Problem("ambiguous_intrinsics", message, where, advice="name the cameras by their workers")]
    lens = fitting[0]
    size = int(index.facts["width"]), int(index.facts["height"])
    if lens.size is not None and lens.size != size:
        message = f"{where}: the intrinsics are of pictures of {lens.size[0]}x{lens.size[1]} px, the video's have {size[0]}x{size[1]}; they stand in the metadata only"
        return Camera("egocentric"), [Problem("intrinsics_of_other_size", message, where, "info", advice="scale them where they are used")]
    return Camera("egocentric", lens.intrinsics_px, lens.distortion), []


def _differences(declared: Mapping[str, Any], index: FrameIndex, size: int, where: str) -> list[Problem]:
    """Say where a JSON member contradicts the video that it is of."""
    facts = {"width": float(index.facts["width"]), "height": float(index.facts["height"]), "size_bytes": float(size), "duration_sec": index.duration_ns / 1e9}
    rate = constant_rate_hz(index)
    if rate is not None:
        facts["fps"] = rate
    slack = {"duration_sec": 1.0, "fps": 0.02 * facts.get("fps", 0.0)}
    wrong = []
    for name, value in facts.items():
        said = declared.get(name)
        if isinstance(said, int | float) and not isinstance(said, bool) and abs(said - value) > slack.get(name, 0.0):
            wrong.append(f"{name} {said:g} where the video has {value:g}")
    return [Problem("declared_facts_differ", f"{where}: the JSON beside it says {', '.join(wrong)}", where)] if wrong else []


def _text_of(content: Any) -> list[str]:
    values = [content.get(name) for name in CAPTIONS] if isinstance(content, dict) else []
    return [text for value in values for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text.strip()]


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read the videos of an archive; one that is broken costs only itself.

    Raises:
        BadRecording: it is packed, no archive at all, or holds no video.
    """
    if item.extra.get("packed"):
        raise BadRecording(
            item.path,
            "an archive that is not packed",
            "one packed with gzip",
            "unpack it once (gunzip): videos do not get smaller by it",
            check="packed_archive",
        )
    rule = episode_rule(options.config)
    found: list[Member] = []
    damage: BadRecording | None = None
    with files.open(item.path) as handle:
        try:
            found.extend(members(handle, item.path))
        except BadRecording as error:
            damage = error
    if damage is not None and not found:
        raise damage
    lens_path = item.extra.get("intrinsics")
    found_lenses, lens_content, problems = _read_lenses(files, lens_path if isinstance(lens_path, str) else None)
    beside: dict[str, dict[str, Member]] = {}
    for member in found:
        if member.extension in BESIDE and not member.odd:
            beside.setdefault(member.stem, {})[member.extension] = member
    films = [member for member in found if member.extension.rpartition(".")[2] in VIDEOS]
    if not films and damage is None:
        kinds = Counter(member.extension or "no extension" for member in found)
        shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6)) or "nothing"
        raise BadRecording(item.path, "videos in the archive", f"{len(found)} members: {shown}", "it is no recording", check="no_video")
    for problem in [*problems, *_left_over(found, films, item.path)]:
        yield Noticed(problem)
    keys = Counter(member.stem for member in films)
    videos = KeptVideos(files)
    for member in films:
        key = member.stem if keys[member.stem] == 1 else member.name
        try:
            index, clip = _open(files, videos, item.path, member)
            texts, said, faults = _beside(files, item.path, beside.get(member.stem, {}))
            camera, doubts = _camera(found_lenses, _ids(member.stem, said)["worker"], index, f"{item.path}: {member.name}")
        except BadRecording as error:
            yield Rejected(key, Problem(error.check, str(error), error.where, "error", error.expected, error.found, error.advice))
            continue
        info = _info(item, key, member, index, texts, said, [*doubts, *faults, *clip], lens_content, options)
        track = VideoTrack(MAIN, item.path, index, (member.start, member.size), camera)
        yield from episodes_of_video([track], MAIN, info, files, rule, where=f"{item.path}: {member.name}")
    if damage is not None:
        yield Rejected("", Problem(damage.check, str(damage), damage.where, "error", damage.expected, damage.found, damage.advice))


def _left_over(found: Sequence[Member], films: Sequence[Member], path: str) -> Iterator[Problem]:
    """Name the members that are not kept."""
    stems = {member.stem for member in films}
    lone = [member.name for member in found if member.extension in BESIDE and member.stem not in stems]
    if lone:
        yield Problem("json_without_video", f"{path}: {len(lone)} members have no video of their name, the first is {lone[0]}", path, "info")
    others = Counter(
        member.extension or "no extension" for member in found if member.extension.rpartition(".")[2] not in VIDEOS and member.extension not in BESIDE
    )
    if others:
        shown = ", ".join(f"{count} of {kind}" for kind, count in others.most_common(6))
        yield Problem("members_not_kept", f"{path}: members that are not kept: {shown}", path, "warning", advice="keep the archive, if they matter")


def _open(files: Opener, videos: KeptVideos, path: str, member: Member) -> tuple[FrameIndex, list[Problem]]:
    """Return the frame index of a video member, and what is wrong with its frames; raise BadRecording."""
    where = f"{path}: {member.name}"
    if member.odd:
        raise BadRecording(where, "a regular member", member.odd, "pack the archive without links and holes", check="odd_member")
    span = (member.start, member.size)
    with open_slice(files, path, span) as handle:
        if sniff(handle.read(HEAD_BYTES)) is None:
            raise BadRecording(where, "a video", "other content" if member.size else "an empty member", "pack the archive again", check="unknown_content")
    index = videos.main(path, span, where)
    return index, [problem for problem in (repeated_times(MAIN, index, where), videos.decodes(path, index, span=span)) if problem is not None]


def _beside(files: Opener, path: str, texts: Mapping[str, Member]) -> tuple[list[str], Any, list[Problem]]:
    """Return the captions of a video, what its JSON member says, and what is wrong with them."""
    captions: list[str] = []
    said: Any = None
    problems: list[Problem] = []
    if "json" in texts:
        try:
            said = _json(files, path, texts["json"])
            captions += _text_of(said)
        except BadRecording as error:
            problems.append(Problem("unreadable_json", str(error), error.where, "warning", error.expected, error.found, error.advice))
    if "txt" in texts and texts["txt"].size <= MAX_JSON_BYTES:
        member = texts["txt"]
        with open_slice(files, path, (member.start, member.size)) as handle:
            captions.append(handle.read(member.size).decode("utf-8", "backslashreplace"))
    return captions, said, problems


def _ids(stem: str, said: Any) -> dict[str, str]:
    """Return factory and worker of a clip: as its JSON says, else as its name does."""
    match = _CLIP.search(basename(stem))
    ids = {"factory": match[1] if match else "", "worker": match[2] if match else ""}
    for name in ("factory", "worker"):
        value = said.get(f"{name}_id") if isinstance(said, dict) else None
        if isinstance(value, str | int) and not isinstance(value, bool):
            ids[name] = str(value)[:200]
    return ids


def _info(
    item: Item, key: str, member: Member, index: FrameIndex, texts: Sequence[str], said: Any, problems: Sequence[Problem], lens: Any, options: ReadOptions
) -> EpisodeInfo:
    where = f"{item.path}: {member.name}"
    ids = _ids(member.stem, said)
    metadata: dict[str, Any] = {"archive": item.path, "member": member.name, **{f"{name}_id": value for name, value in ids.items() if value}}
    if said is not None:
        metadata["clip"] = said
    if lens is not None:
        metadata["intrinsics"] = lens
    differences = _differences(said, index, member.size, where) if isinstance(said, dict) else []
    return EpisodeInfo(
        dataset=item.dataset,
        columns={},
        clock="measured",
        key=key,
        rate_hz=constant_rate_hz(index) or options.rate_hz,
        tasks=tuple(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip())),
        splits=item.splits,
        embodiment="person",
        origin="human_video",
        metadata={**metadata, "stem": splitext(basename(member.name))[0]},
        problems=(*problems, *differences),
    )
