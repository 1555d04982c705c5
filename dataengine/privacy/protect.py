"""Protecting recordings: a reader's events go in, events without faces or personal facts come out, before the store sees any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Event, Noticed, Rejected
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.core.slices import media_source
from dataengine.core.stream import Items, MediaFrames, Rows
from dataengine.privacy.audit import Audit, CameraAudit
from dataengine.privacy.cameras import Camera, blurred_column
from dataengine.privacy.config import PrivacyConfig
from dataengine.privacy.detector import Detector, DetectorIdentity, identify, open_detector, parameters_of
from dataengine.privacy.films import ProtectedFiles, cleaned, film_tags
from dataengine.privacy.payloads import is_opaque, may_show_somebody, reads_as_text
from dataengine.privacy.picture_bytes import bare
from dataengine.privacy.plan import StreamPlan, plan_streams
from dataengine.privacy.policy import rules_digest
from dataengine.privacy.scrubbing import UNREAD, UNSEARCHED, scrubbed_bytes, without_picture_texts
from dataengine.privacy.survey import Film, Reading, Survey, survey
from dataengine.privacy.words import Words


class Protector:
    """Protects the items of one unit; the detector is made once.

    Raises:
        UsageError: what the detector needs is not here.
    """

    def __init__(self, config: PrivacyConfig, scratch: Path) -> None:
        self.config, self._scratch = config, scratch
        self.detector: Detector | None = open_detector(config.faces) if config.blur_faces else None
        self.identity: DetectorIdentity | None = identify(config.faces) if config.blur_faces else None
        self.rules = rules_digest(config.rules) if config.scrub else ""

    def item(self, read: Reading, files: Opener) -> ProtectedItem:
        """Return an item as it may be landed; `read` gives the reader's events from the start, each time it is called."""
        return ProtectedItem(self, read, files, self._scratch)


class ProtectedItem:
    """One item: `events` to land, the `files` that they may name, and `text` for what is said about it elsewhere."""

    def __init__(self, protector: Protector, read: Reading, files: Opener, scratch: Path) -> None:
        self._protector, self._read, self._source = protector, read, files
        self.files = ProtectedFiles(files, scratch)
        self._item_words = Words(protector.config.rules) if protector.config.scrub else None

    def text(self, text: str) -> str:
        """Return a text about the item (its address, a message) without what the rules are about."""
        if self._item_words is None:
            return text
        self._item_words.learn_paths(text)
        return self._item_words.text(text, "catalog")

    def close(self) -> None:
        """Let what lies on the disk go."""
        self.files.close()

    def events(self) -> Iterator[Event]:
        """Yield the item's events, protected.

        A recording that cannot be protected (a frame that does not decode) is rejected; the ones after it go on.
        """
        try:
            events = self._read()
            for found in survey(self._read):
                yield from self._recording(found, events)
            for event in events:
                if isinstance(event, Noticed):
                    yield Noticed(self._problem(event.problem))
        except BadRecording as error:
            raise BadRecording(self.text(error.where), self.text(error.expected), self.text(error.found), self.text(error.advice), error.check) from error

    def _recording(self, found: Survey, events: Iterator[Event]) -> Iterator[Event]:
        if self._item_words is not None and isinstance(found.end, EpisodeInfo):
            self._item_words.learn(found.end.metadata)
            self._item_words.learn_names(found.streams)
        recording: _Recording | None = None
        broken: BadRecording | None = None
        try:
            recording = _Recording(self._protector, found, self._source, self.files) if isinstance(found.end, EpisodeInfo) else None
        except BadRecording as error:
            broken = error
        for event in events:
            if isinstance(event, Noticed):
                yield Noticed(self._problem(event.problem))
            elif isinstance(event, Rows):
                if recording is not None and broken is None:
                    try:
                        yield from recording.rows(event)
                    except BadRecording as error:
                        broken = error
            elif isinstance(event, Rejected):
                problem = self._problem(event.problem)  # its paths may say what a serial number in the key is
                yield Rejected(self.text(event.key), problem)
                return
            else:
                if recording is not None and broken is None:
                    try:
                        yield from recording.end()
                        yield recording.info()
                        return
                    except BadRecording as error:
                        broken = error
                assert broken is not None
                problem = self._problem(Problem(broken.check, str(broken), broken.where, "error", broken.expected, broken.found, broken.advice))
                yield Rejected(self.text(event.key), problem)
                return

    def _problem(self, problem: Problem) -> Problem:
        if self._item_words is None:
            return problem
        self._item_words.learn_paths(problem.where)
        return scrubbed_problem(problem, self._item_words)


def scrubbed_problem(problem: Problem, words: Words) -> Problem:
    """Return a problem whose sentences hold nothing that the rules are about."""
    message, where, expected, found, advice = (
        words.text(part, "problems") for part in (problem.message, problem.where, problem.expected, problem.found, problem.advice)
    )
    return replace(problem, message=message, where=where, expected=expected, found=found, advice=advice)


class _Recording:
    """One recording on its way to the store."""

    def __init__(self, protector: Protector, found: Survey, source: Opener, files: ProtectedFiles) -> None:
        assert isinstance(found.end, EpisodeInfo)
        self._protector, self._found, self._info = protector, found, found.end
        self._source, self._files = source, files
        config = protector.config
        self._audit = Audit()
        self._words = Words(config.rules) if config.scrub else None
        if self._words is not None:
            self._words.learn(self._info.metadata)
            self._words.learn_names(found.streams)
            self._learn_tags(self._words)
        self._plans = plan_streams(found, self._info.columns, config, self._words, self._audit.left_alone)
        self._names = self._new_names()
        self._cameras: dict[str, Camera] = {}
        self._films: dict[Film, set[int]] = {}
        for name, sight in found.streams.items():
            if self._plans[name].treatment == "film":
                for film, tracks in sight.films.items():
                    self._films.setdefault(film, set()).update(tracks)
            if self._plans[name].treatment == "withhold":
                self._audit.withheld[self._names.get(name, name)] = self._plans[name].why

    def _learn_tags(self, words: Words) -> None:
        """Note what the containers of kept video say of people and things."""
        films = {film for sight in self._found.streams.values() for film in sight.films}
        for uri, span in sorted(films, key=lambda film: (film[0], film[1] or (0, 0))):
            source = media_source(self._source, uri, span)
            try:
                tags = film_tags(source, uri)
            finally:
                if not isinstance(source, str):
                    source.close()
            words.learn(tags)
            words.metadata(tags, "containers of video")  # counted for the record; the container itself is left behind

    def _new_names(self) -> dict[str, str]:
        """Return the streams' names without what the rules are about, each once."""
        names: dict[str, str] = {}
        if self._words is None:
            return names
        taken: set[str] = set()
        for name in [*self._found.streams, *(name for name in self._info.columns if name not in self._found.streams)]:
            wanted = self._words.name(name)
            new, number = wanted, 2
            while new in taken:
                new, number = f"{wanted}_{number}", number + 1
            taken.add(new)
            names[name] = new
        self._audit.renamed = sum(name != new for name, new in names.items())
        return names

    def _name(self, name: str) -> str:
        return self._names.get(name, name)

    # -- rows

    def rows(self, rows: Rows) -> Iterator[Rows]:
        """Yield what may go on of some rows."""
        plan = self._plans.get(rows.stream)
        if plan is None or plan.treatment == "withhold":
            return
        if plan.treatment == "blur":
            for blurred in self._camera(rows.stream).rows(rows, self._source):
                yield replace(blurred, stream=self._name(rows.stream))
            return
        values = rows.values
        if plan.treatment == "film":
            assert isinstance(values, MediaFrames)
            name, film = self._files.film(values.uri, self._films[values.uri, values.span], values.span)
            self._audit.left_out[self._name(rows.stream)] = film.left_out
            values = cleaned(values, name, film)
        elif isinstance(values, Items) and plan.treatment == "pictures":
            values = self._bare_pictures(rows.stream, values)
        elif isinstance(values, Items) and plan.treatment == "bytes":
            values = self._looked_into(rows.stream, values, plan)
        yield Rows(self._name(rows.stream), values, rows.clocks)

    def _camera(self, stream: str) -> Camera:
        camera = self._cameras.get(stream)
        if camera is None:
            detector = self._protector.detector
            assert detector is not None
            audit = self._audit.cameras.setdefault(self._name(stream), CameraAudit())
            column = self._info.columns.get(stream) or Column(stream, kind="image")
            camera = self._cameras[stream] = Camera(stream, column, detector, self._protector.config.faces, audit)
        return camera

    def _bare_pictures(self, stream: str, values: Items) -> Items:
        found: list[bytes] = []
        for data in values.data:
            clean = bare(data, f"stream {stream!r}") if len(data) else b""
            self._audit.stripped[self._name(stream)] += len(clean) != len(data)
            found.append(clean)
        return Items(found, values.encodings)

    def _looked_into(self, stream: str, values: Items, plan: StreamPlan) -> Items:
        kept: list[Any] = []
        for row, data in enumerate(values.data):
            encoding = values.encoding(row)
            whole = bytes(data)
            why = UNSEARCHED if plan.searched and may_show_somebody(whole, encoding, plan.schema, plan.message) else None
            if why is None and plan.unread and is_opaque(encoding) and not reads_as_text(whole):
                why = UNREAD
            if why is None and self._words is not None and whole:
                whole, rule = scrubbed_bytes(whole, encoding, self._words, self._name(stream))
                why = f"rule {rule}: its bytes" if rule is not None else None
            if why is not None:
                self._audit.emptied[self._name(stream), why] += 1
                whole = b""
            kept.append(data if len(whole) == len(data) and whole == data else whole)
        return Items(kept, values.encodings)

    def end(self) -> Iterator[Rows]:
        """Yield the rows that still wait."""
        for stream, camera in self._cameras.items():
            for blurred in camera.end():
                yield replace(blurred, stream=self._name(stream))

    # -- what is said of the whole

    def info(self) -> EpisodeInfo:
        """Return the recording's end as it may be kept, with the record of what was done."""
        info, config, words = self._info, self._protector.config, self._words
        withheld = {name for name, plan in self._plans.items() if plan.treatment == "withhold"}
        columns = {self._name(name): self._column(name, column) for name, column in info.columns.items() if name not in withheld}
        metadata = dict(info.metadata) if words is None else words.metadata(info.metadata)
        if config.blur_faces:
            metadata = without_picture_texts(metadata, self._audit.emptied)
        changes: dict[str, Any] = {
            "columns": columns,
            "stream_clocks": {self._name(name): clock for name, clock in info.stream_clocks.items() if name not in withheld},
            "follow": None if info.follow is None or info.follow in withheld else self._name(info.follow),
        }
        problems = list(info.problems)
        if words is not None:
            changes |= {
                "key": words.text(info.key, "keys"),
                "tasks": tuple(words.text(task, "tasks", sentence=True) for task in info.tasks),
                "splits": tuple(words.text(split, "splits") for split in info.splits),
                "licence": None if info.licence is None else words.text(info.licence, "licence"),
                "consent": None if info.consent is None else words.text(info.consent, "consent"),
            }
            problems = [scrubbed_problem(problem, words) for problem in problems]
        times = None if words is None else sum(words.counts.values())
        problems += self._audit.problems(changes.get("key", info.key) or "recording", config.blur_faces, times)
        return replace(info, **changes, metadata={**metadata, "privacy": self._record()}, problems=tuple(problems))

    def _record(self) -> dict[str, Any]:
        config, record = self._protector.config, self._protector.config.record() | self._audit.shared()
        if config.blur_faces:
            assert self._protector.identity is not None
            record["faces"] = self._audit.faces(self._protector.identity.as_dict(), parameters_of(config.faces))
        if self._words is not None:
            record["scrubbed"] = self._audit.scrub(self._words.counts, self._protector.rules)
        return record

    def _column(self, name: str, column: Column) -> Column:
        plan, sight = self._plans.get(name), self._found.streams.get(name)
        if plan is not None and sight is not None and plan.treatment == "blur":
            column = blurred_column(column, sight.first, self._protector.config.faces.quality)
        extra = dict(column.extra)
        link = extra.get("picture")
        if isinstance(link, Mapping) and self._plans.get(str(link.get("stream")), StreamPlan("keep")).treatment in ("blur", "pictures"):
            extra["picture"] = {**link, "exact": "never: the pictures were changed for privacy"}
        if self._words is None:
            return replace(column, extra=extra)
        camera = column.camera
        if camera is not None and camera.pose_stream is not None:
            camera = replace(camera, pose_stream=self._name(camera.pose_stream))
        words = self._words
        return replace(
            column,
            name=self._name(name),
            dims=None if column.dims is None else tuple(words.name(dim) for dim in column.dims),
            frame=None if column.frame is None else words.name(column.frame),
            doc=words.text(column.doc, "columns", sentence=True),
            camera=camera,
            extra={key: self._extra(key, value) for key, value in extra.items()},
        )

    def _extra(self, key: str, value: Any) -> Any:
        assert self._words is not None
        if isinstance(value, str):
            return self._name(value) if value in self._names else self._words.text(value, "columns")
        if isinstance(value, Mapping):
            # A schema in base64 must stay what it is: it says how messages are built.
            return {inner: part if inner == "base64" else self._extra(inner, part) for inner, part in value.items()}
        if isinstance(value, list):
            return [self._extra(key, part) for part in value]
        return value
