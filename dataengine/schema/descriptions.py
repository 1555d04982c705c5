"""Known datasets as data: control rate, body, what each column means; and filling that into the columns that a reader found.

What a file says of itself always wins: a description fills only what the file left open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, model_validator

from dataengine.core.column import ActionKind, ActionSource, ActionSpace, Camera, CameraRole, Column, Gripper, Meaning, RotationKind
from dataengine.core.config import Config, read_config
from dataengine.core.episode import Origin
from dataengine.core.errors import ConfigError
from dataengine.core.names import data_folder
from dataengine.core.problem import Problem
from dataengine.schema.citations import citations, faults
from dataengine.schema.embodiments import embodiments

# What a description says for people to read: changing it changes nothing that is read or stored.
FOR_PEOPLE = ("title", "cite", "defects")


class GripperSpace(Config):
    """Which dimension is the gripper, and its value when closed and when open."""

    dimension: int = Field(ge=0)
    closed: float
    open: float
    unit: str | None = None

    @model_validator(mode="after")
    def _closed_is_not_open(self) -> GripperSpace:
        if self.closed == self.open:
            raise ValueError(f"gripper: closed and open must differ, got {self.closed} for both")
        return self


class ActionTerms(Config):
    """An action space, as in `core.column.ActionSpace`."""

    kind: ActionKind
    rotation: RotationKind | None = None
    frame: str | None = None
    absolute: bool | None = None
    gripper: GripperSpace | None = None
    rate_hz: float | None = Field(default=None, gt=0)

    def value(self) -> ActionSpace:
        """Return the core value."""
        gripper = None if self.gripper is None else Gripper(self.gripper.dimension, self.gripper.closed, self.gripper.open, self.gripper.unit)
        return ActionSpace(self.kind, self.rotation, self.frame, self.absolute, gripper, self.rate_hz)


class ColumnDescription(Config):
    """What is known of one column; `also` lists other names that sources give it (`steps/action`, `actions`)."""

    also: tuple[str, ...] = ()
    meaning: Meaning | None = None
    unit: str | None = None
    dims: tuple[str, ...] | None = None
    frame: str | None = None
    action_space: ActionTerms | None = None
    action_source: ActionSource | None = None
    camera: CameraRole | None = None
    align: Literal["nearest", "previous", "linear", "slerp"] | None = None
    doc: str = ""

    @model_validator(mode="after")
    def _gripper_is_a_dimension(self) -> ColumnDescription:
        gripper = self.action_space.gripper if self.action_space is not None else None
        if gripper is not None and self.dims is not None and gripper.dimension >= len(self.dims):
            raise ValueError(f"action_space.gripper.dimension: must be below the {len(self.dims)} dims, got {gripper.dimension}")
        return self


class Defect(Config):
    """Something that is known to be wrong with a dataset or with what is published of it, and where that is published or how it shows."""

    what: str = Field(min_length=1)
    cite: str = Field(min_length=1)


class DatasetDescription(Config):
    """A known dataset. A fact that is not sure is null; `cite` says for each other one where it is published, see `schema.citations`.

    `actions` names the columns that make up the action, in order; `defects` says what is known to be wrong.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    aliases: tuple[str, ...] = ()
    rate_hz: float | None = Field(default=None, gt=0)
    embodiment: str | None = None
    origin: Origin | None = None
    licence: str | None = None
    cite: dict[str, str] = Field(min_length=1)
    columns: dict[str, ColumnDescription] = Field(default_factory=dict)
    actions: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()

    @model_validator(mode="after")
    def _names_are_known_and_unique(self) -> DatasetDescription:
        missing = [name for name in self.actions if name not in self.columns]
        if missing:
            raise ValueError(f"actions: {', '.join(missing)} must stand in columns")
        names = [other for name, column in self.columns.items() for other in (name, *column.also)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns: {', '.join(twice)} must stand once, names in `also` included")
        return self

    @model_validator(mode="after")
    def _each_fact_is_cited(self) -> DatasetDescription:
        found = faults(self)
        if found:
            raise ValueError("; ".join(found))
        return self

    @model_validator(mode="after")
    def _one_primary_camera(self) -> DatasetDescription:
        for depth in (False, True):  # a camera's depth has the role of its pictures
            primary = [name for name, column in self.columns.items() if column.camera == "primary" and ("depth" in name) is depth]
            if len(primary) > 1:
                raise ValueError(f"columns: one camera is the primary one, got {', '.join(primary)}")
        return self

    def citations(self) -> dict[str, str]:
        """Return where each fact that is not null is published, by the fact's address (`columns.action.dims`)."""
        return citations(self)

    def affecting(self) -> dict[str, Any]:
        """Return what of the description affects what is stored: a better citation is no reason to read recordings again."""
        return self.model_dump(mode="json", exclude=set(FOR_PEOPLE))


def read_descriptions(folder: Path) -> dict[str, DatasetDescription]:
    """Read each YAML file of a folder; raise ConfigError where one is not valid, is misnamed, or names a body that is not known."""
    found: dict[str, DatasetDescription] = {}
    taken: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        described = read_config(DatasetDescription, path)
        if described.name != path.stem:
            raise ConfigError(f"{path}: name must be {path.stem!r} as the file's, got {described.name!r}; rename one of them")
        if described.embodiment is not None and described.embodiment not in embodiments():
            raise ConfigError(
                f"{path}: embodiment must be one of {', '.join(sorted(embodiments()))}, got {described.embodiment!r}; add it to configs/embodiments"
            )
        for name in (described.name, *described.aliases):
            if name in taken:
                raise ConfigError(f"{path}: the name {name!r} is taken by {taken[name]!r}; choose another")
            taken[name] = described.name
        found[described.name] = described
    return found


@cache
def descriptions() -> Mapping[str, DatasetDescription]:
    """Return the known datasets in configs/datasets by name."""
    return MappingProxyType(read_descriptions(data_folder("configs") / "datasets"))


def describe(name: str) -> DatasetDescription | None:
    """Return the description of a dataset by its name or one of its aliases, None where it is not known."""
    for described in descriptions().values():
        if name == described.name or name in described.aliases:
            return described
    return None


def _entry_of(description: DatasetDescription, column: Column, name: str) -> ColumnDescription | None:
    names = {name, column.name, column.extra.get("source")}
    for known, entry in description.columns.items():
        if known in names or not names.isdisjoint(entry.also):
            return entry
    return None


def _last_axis(column: Column) -> int | None:
    return column.shape[-1] if column.shape else None


def _filled_space(said: ActionSpace | None, known: ActionSpace) -> ActionSpace:
    if said is None:
        return known
    if said.kind != "other" and said.kind != known.kind:
        return said
    return ActionSpace(
        kind=known.kind,
        rotation=said.rotation or known.rotation,
        frame=said.frame or known.frame,
        absolute=known.absolute if said.absolute is None else said.absolute,
        gripper=said.gripper or known.gripper,
        rate_hz=said.rate_hz or known.rate_hz,
    )


def _filled(column: Column, entry: ColumnDescription) -> Column:
    dims = column.dims
    if dims is None and entry.dims is not None and _last_axis(column) == len(entry.dims):
        dims = entry.dims
    space = column.action_space
    if entry.action_space is not None and (entry.dims is None or _last_axis(column) == len(entry.dims)):
        space = _filled_space(space, entry.action_space.value())
    camera = column.camera
    if entry.camera is not None and column.is_camera and (camera is None or camera.role == "other"):
        camera = replace(camera or Camera(), role=entry.camera)
    return replace(
        column,
        meaning=entry.meaning if column.meaning == "other" and entry.meaning is not None else column.meaning,
        unit=column.unit or entry.unit,
        dims=dims,
        frame=column.frame or entry.frame,
        action_space=space,
        action_source=column.action_source or entry.action_source,
        camera=camera,
        align=column.align or entry.align,
        doc=column.doc or entry.doc,
    )


def apply(description: DatasetDescription, columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return the columns with what the description knows filled in; what the file itself said stays.

    An entry belongs to a column whose name, stream or `extra["source"]` is the entry's name or one of its `also`. Names of dimensions and the action
    space are filled only where the column is as wide as the description says.
    """
    entries = {name: _entry_of(description, column, name) for name, column in columns.items()}
    return {name: column if (entry := entries[name]) is None else _filled(column, entry) for name, column in columns.items()}


def _differs(description: DatasetDescription, name: str, what: str, expected: str, found: str) -> Problem:
    message = f"{what}: the description of {description.name!r} says {expected}, the recordings say {found}"
    advice = "correct configs/datasets, or give the dataset another name with --dataset"
    return Problem("description_differs", message, name, expected=expected, found=found[:400], advice=advice)


def _space_differs(description: DatasetDescription, name: str, said: ActionSpace, known: ActionSpace) -> Problem | None:
    """Return where an action space that a file states contradicts the description's; what either leaves open does not."""
    pairs: list[tuple[str, Any, Any]] = [
        ("kind", known.kind, said.kind if said.kind != "other" else None),
        ("rotation", known.rotation, said.rotation),
        ("frame", known.frame, said.frame),
        ("absolute", known.absolute, said.absolute),
        ("gripper (closed, open)", known.gripper and (known.gripper.closed, known.gripper.open), said.gripper and (said.gripper.closed, said.gripper.open)),
    ]
    wrong = [(fact, expected, found) for fact, expected, found in pairs if expected is not None and found is not None and expected != found]
    if not wrong:
        return None
    expected, found = (", ".join(f"{fact} {values[side]}" for fact, *values in wrong) for side in (0, 1))
    return _differs(description, name, f"column {name!r}", expected, found)


def mismatches(description: DatasetDescription, columns: Mapping[str, Column]) -> list[Problem]:
    """Return where the columns, as the file gives them, are not what the description says: other widths, other meanings, actions that are absent."""
    problems = []
    found: set[int] = set()
    for name, column in columns.items():
        entry = _entry_of(description, column, name)
        if entry is None:
            continue
        found.add(id(entry))
        if entry.dims is not None and _last_axis(column) != len(entry.dims):
            expected = f"{len(entry.dims)} entries ({', '.join(entry.dims)})"
            problems.append(_differs(description, name, f"column {name!r}", expected, f"shape {column.shape}"))
        elif entry.action_space is not None and column.action_space is not None:
            problem = _space_differs(description, name, column.action_space, entry.action_space.value())
            problems.extend([problem] if problem is not None else [])
    if any(column.kind == "numeric" for column in columns.values()):  # a film of a known dataset has no actions, and claims none
        for name in description.actions:
            if id(description.columns[name]) not in found:
                listed = ", ".join(sorted(columns)) or "none"
                problems.append(_differs(description, name, f"the action {name!r} is absent", f"a column {name!r}", f"columns {listed}"))
    return problems


def unknown_semantics(dataset: str, columns: Mapping[str, Column]) -> Problem | None:
    """Return the notice that a dataset has actions of which nothing says what their numbers mean; None where something does, or it has none.

    Whether a format says so itself (the controller settings of robosuite, the names of LeRobot's features) shows in its columns: an action space, or the
    names of the entries.
    """
    actions = [name for name, column in columns.items() if column.meaning == "action" and column.kind == "numeric"]
    mute = [name for name in actions if columns[name].action_space is None and columns[name].dims is None]
    if not mute or len(mute) < len(actions):
        return None
    names = f"{', '.join(mute[:4])[:300]}{' …' if len(mute) > 4 else ''}"
    return Problem(
        "unknown_semantics",
        f"dataset {dataset!r} has no description: what the numbers of {names} mean (space, frame, rotation, gripper) is not known; the names are the file's",
        dataset,
        expected="a description in configs/datasets, or columns that say what they mean",
        found=f"{names} without either",
        advice="describe the dataset in configs/datasets, or name a known one with --dataset (see `dataengine sources --datasets`)",
    )


# Notices about a dataset as a whole: a job gives each once, whatever the number of its recordings, and they flag no episode.
DATASET_NOTICES = ("description_differs", "unknown_semantics")


def dataset_notices(dataset: str, description: DatasetDescription | None, said: Mapping[str, Column], columns: Mapping[str, Column]) -> list[Problem]:
    """Return what is to be said of a dataset once: where its description disagrees with the recordings, or that nothing says what its actions mean.

    Args:
        dataset: its name.
        description: what is known of it.
        said: the columns as the reader gave them.
        columns: the same with the description filled in.
    """
    if description is not None:
        return mismatches(description, said)
    problem = unknown_semantics(dataset, columns)
    return [] if problem is None else [problem]
