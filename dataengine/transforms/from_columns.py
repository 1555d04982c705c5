"""Transforms of batches from what the columns of a dataset say of themselves: `rotation_change` and `relative_actions`. Nothing is guessed."""

from __future__ import annotations

from dataengine.core.column import Column, RotationKind
from dataengine.core.errors import MissingFact, UsageError
from dataengine.transforms.action_parts import Part, missing, position_part, rotation_part
from dataengine.transforms.batch_fields import demand
from dataengine.transforms.chunk_references import PoseFrame, Reference
from dataengine.transforms.relative import DeltaActions, PoseEntries
from dataengine.transforms.rotations import WIDTHS, ConvertRotation


def rotation_change(column: Column, to_kind: RotationKind, name: str | None = None) -> ConvertRotation:
    """Return the transform for a column that says where its rotation stands and how it is written.

    Args:
        column: with the names of its entries (`dims`) and its action space.
        to_kind: how it shall be written.
        name: the field of the batch, if it is not the column's name: "action" or "state", say.

    Raises:
        MissingFact: the column does not say its rotation's kind, entries or unit.
        UsageError: it has no rotation, or its entries are not in rad or not in order.
    """
    part = rotation_part(column)
    if part is None:
        raise UsageError(f"column {column.name!r}: must hold a rotation, got {', '.join(column.dims or ()) or 'no dims'}")
    kind, order = _rotation(part)
    wanted = tuple(range(min(order), min(order) + WIDTHS[kind]))
    demand(order == wanted, f"column {column.name!r}: the entries of its {kind} must follow each other, got them at {order}")
    return ConvertRotation(name or column.name, order[0], kind, to_kind)


def relative_actions(
    action: Column, state: Column, to: Reference = "state", frame: PoseFrame = "tool", names: tuple[str, str] = ("action", "state"), state_steps: bool = False
) -> DeltaActions:
    """Return the transform that makes the absolute actions of a dataset relative: poses of the hand as poses, joints by subtraction.

    A gripper stays absolute, and so does every entry of joint actions that the state has no entry of the same name for.

    Args:
        action: a column of absolute poses (ee_pose) or joint positions, with the names of its entries.
        state: a column of the same, in the same unit and frame.
        to: the reference: see `DeltaActions`.
        frame: of relative poses: "tool" or "base".
        names: the fields of the two in the batch.
        state_steps: whether the field of the state has steps.

    Raises:
        MissingFact: a column does not say what is needed.
        UsageError: the actions are not absolute, or the two do not fit together.
    """
    space = action.action_space
    if space is None:
        raise missing(action.name, "kind", "whether it is a pose, joint positions or something else is not known")
    demand(
        space.absolute is not False and space.kind in ("ee_pose", "joint_position"), f"column {action.name!r}: must be absolute poses or joints, got {space}"
    )
    if space.kind == "joint_position":
        shared = _shared_joints(action, state)
        return DeltaActions(tuple(shared), to=to, action=names[0], state=names[1], state_dims=tuple(shared.values()), state_steps=state_steps)
    rotation, of_state = rotation_part(action), rotation_part(state)
    if rotation is None or of_state is None:
        raise UsageError(f"columns {action.name!r} and {state.name!r}: must both hold a rotation to be seen from each other; name dims of DeltaActions instead")
    position, state_position = position_part(action), position_part(state)
    for one, other in ((rotation, of_state), (position, state_position)):
        if one is not None and other is not None:
            demand(
                one.frame == other.frame, f"columns {action.name!r} and {state.name!r}: must be in one frame, got {one.frame!r} and {other.frame!r}; state it"
            )
    demand((position is None) == (state_position is None), f"columns {action.name!r} and {state.name!r}: must both hold a position, or neither")
    if position is None or state_position is None:
        places: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    else:
        demand(
            (position.gain, position.offset, position.slots) == (state_position.gain, state_position.offset, state_position.slots) and len(position.slots) == 3,
            f"columns {action.name!r} and {state.name!r}: must have x, y and z in one unit, got {action.unit} and {state.unit}",
        )
        places = (position.entries, state_position.entries)
    (kind, entries), (state_kind, state_entries) = _rotation(rotation), _rotation(of_state)
    pose = PoseEntries(entries, kind, places[0], frame, state_entries, state_kind, places[1])
    return DeltaActions(poses=(pose,), to=to, action=names[0], state=names[1], state_steps=state_steps)


def _rotation(part: Part) -> tuple[RotationKind, tuple[int, ...]]:
    """Return the kind of a rotation and its entries in the order of the kind; raise UsageError unless it is whole and in rad."""
    assert part.rotation is not None
    demand(
        set(part.gain) == {1.0} and set(part.offset) == {0.0}, f"column {part.column!r}: its angles must be in rad, got 1 that stands for {part.gain[0]:g} rad"
    )
    demand(len(part.entries) == part.width, f"column {part.column!r}: its rotation must have all {part.width} entries, got {len(part.entries)}")
    turned = part.entries[-1:] + part.entries[:-1] if part.rotation == "quat_wxyz" else part.entries  # a part has x, y, z, w whatever their order
    return part.rotation, turned


def _shared_joints(action: Column, state: Column) -> dict[int, int]:
    """Return for each entry of the action that is no gripper the entry of the state of the same name."""
    if action.dims is None or state.dims is None:
        raise MissingFact(action.name if action.dims is None else state.name, "dims", "they say which joint is which")
    demand(action.unit == state.unit, f"columns {action.name!r} and {state.name!r}: must be in one unit, got {action.unit} and {state.unit}")
    grippers = {action.action_space.gripper.dimension} if action.action_space is not None and action.action_space.gripper is not None else set()
    shared = {entry: state.dims.index(name) for entry, name in enumerate(action.dims) if name in state.dims and entry not in grippers and "gripper" not in name}
    demand(bool(shared), f"columns {action.name!r} and {state.name!r}: must name some joints alike, got {action.dims} and {state.dims}")
    return shared
