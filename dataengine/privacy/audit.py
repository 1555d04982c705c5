"""What was done to one recording: the record that goes into its metadata, and the problems that a job reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dataengine.core.problem import Problem


@dataclass
class CameraAudit:
    """One camera: how many frames were there, searched, and blurred in, how many finds were sure and how many not, and how many boxes were blurred."""

    frames: int = 0
    searched: int = 0
    with_faces: int = 0
    faces: int = 0
    unsure: int = 0
    blurred: int = 0
    boxes: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts as a dict for JSON."""
        return {
            "frames": self.frames,
            "frames_searched": self.searched,
            "frames_with_faces": self.with_faces,
            "faces": self.faces,
            "unsure_finds": self.unsure,
            "frames_blurred": self.blurred,
            "boxes_blurred": self.boxes,
        }


@dataclass
class Audit:
    """The record of one recording; it names rules, keys, streams and counts, never a value.

    `withheld` maps a stream to the rule it fell under; `emptied` counts the rows of a stream whose bytes were withheld; `left_out` names what of the files of kept video is
    gone; `left_alone` names streams of pictures that were not searched, and why.
    """

    cameras: dict[str, CameraAudit] = field(default_factory=dict)
    withheld: dict[str, str] = field(default_factory=dict)
    emptied: Counter[tuple[str, str]] = field(default_factory=Counter)
    stripped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)
    renamed: int = 0

    def faces(self, detector: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of blurring."""
        return {
            "detector": dict(detector),
            "parameters": dict(parameters),
            "cameras": {name: camera.as_dict() for name, camera in sorted(self.cameras.items())},
            "left_alone": dict(sorted(self.left_alone.items())),
        }

    def shared(self) -> dict[str, Any]:
        """Return what of the recording was withheld, for either reason."""
        found: dict[str, Any] = {}
        if self.withheld:
            found["streams_withheld"] = dict(sorted(self.withheld.items()))
        if self.emptied:
            found["rows_emptied"] = [{"stream": stream, "why": why, "rows": rows} for (stream, why), rows in sorted(self.emptied.items())]
        if self.left_out:
            found["left_out_of_video"] = {name: list(parts) for name, parts in sorted(self.left_out.items())}
        return found

    def scrub(self, counts: Mapping[tuple[str, str], int], rules: str) -> dict[str, Any]:
        """Return the record of scrubbing: which rule replaced how often, and where; `rules` is the digest of all of them."""
        found: dict[str, Any] = {
            "rules": rules,
            "replaced": [{"rule": rule, "where": where, "times": times} for (rule, where), times in sorted(counts.items())],
        }
        if self.stripped:
            found["pictures_without_metadata"] = dict(sorted(self.stripped.items()))
        if self.renamed:
            found["streams_renamed"] = self.renamed
        return found

    def problems(self, where: str, blurred: bool, scrubbed: int | None) -> Iterator[Problem]:
        """Yield what a job reports of it."""
        if blurred:
            searched = sum(camera.searched for camera in self.cameras.values())
            faces = sum(camera.faces for camera in self.cameras.values())
            frames = sum(camera.blurred for camera in self.cameras.values())
            yield Problem(
                "faces_blurred",
                f"{where}: {faces} faces were found in {searched} frames of {len(self.cameras)} cameras, and {frames} frames were blurred; "
                "a face that the detector does not know is not blurred",
                where,
                "info",
            )
        if scrubbed is not None:
            yield Problem("scrubbed", f"{where}: {scrubbed} values and texts fell under the rules of --scrub and were replaced or removed", where, "info")
        for stream, why in sorted(self.withheld.items()):
            yield Problem(
                "withheld_stream", f"{where}: stream {stream!r} was withheld: {why}", where, "warning", advice="see the episode's metadata, `privacy`"
            )
        rows: Counter[tuple[str, str]] = Counter(self.emptied)
        for (stream, why), count in sorted(rows.items()):
            yield Problem("withheld_rows", f"{where}: {count} rows of stream {stream!r} were emptied: {why}", where, "warning")
        for name, parts in sorted(self.left_out.items()):
            lost = [part for part in parts if not part.startswith("metadata")]
            if lost:
                yield Problem("left_out_of_video", f"{where}: {name}: {', '.join(lost)} did not come along", where, "info")
