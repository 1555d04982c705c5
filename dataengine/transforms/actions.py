"""What the actions of a dataset mean, as a view that turns them into one convention and back: `action_view`.

    trajectory = store.read_trajectory(episode_id)
    view = action_view(trajectory.specs)
    standard = view.of(trajectory)  # standard.values is (T, 7): x, y, z, a rotation vector, and the gripper
    recorded = view.inverse(standard, trajectory.columns)  # the columns of the dataset again

What the columns do not say is never guessed: the error names the column and the fact. Whoever knows it states it:
`action_view(specs, stated={"action": {"unit": "m, rad"}})`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dataengine.core.column import Column
from dataengine.core.errors import MissingFact, UsageError
from dataengine.transforms.action_parts import TOOL, GripperPart, Pose, moves_hand, pose_of, stated_column
from dataengine.transforms.standard_actions import ActionView, Convention, StandardActions


def action_view(
    specs: Mapping[str, Column],
    actions: Sequence[str] | None = None,
    state: Sequence[str] | None = None,
    convention: Convention | None = None,
    stated: Mapping[str, Mapping[str, Any]] | None = None,
) -> ActionView:
    """Return the view of a dataset's actions, from what its columns say of themselves.

    Args:
        specs: the columns, as `Trajectory.specs` has them.
        actions: the columns that make up the action; by default those of meaning "action" that hold a pose of the hand, its change, or a gripper alone.
        state: the columns of the hand's pose and of the gripper; by default those of meaning "state", where they are needed and only one of each says so.
        convention: how the result is written.
        stated: facts by column that the caller knows and the dataset does not say, such as `{"action": {"unit": "m, rad"}}`.

    Raises:
        MissingFact: a column does not say what is needed: unit, rotation, frame, gripper, dims.
        UsageError: no column holds a pose of the hand or its change, or several do.
    """
    convention = convention or Convention()
    known = {name: stated_column(replace(column, name=name), (stated or {}).get(name, {})) for name, column in specs.items()}
    for name in (*(actions or ()), *(state or ()), *(stated or {})):
        if name not in known:
            raise UsageError(f"column {name!r}: must be one of {', '.join(sorted(known)) or 'none'}")
    chosen = [known[name] for name in actions] if actions is not None else _action_columns(known)
    action = pose_of(chosen, "the action")
    part = action.position or action.rotation
    if part is None:
        raise UsageError(f"the action: must name a position or a rotation in its dims, got {', '.join(chosen[0].dims or ()) or 'none'}")
    other = action.rotation if action.position is not None else None
    if other is not None and (other.frame, other.absolute) != (part.frame, part.absolute):
        raise UsageError(
            f"the action: position and rotation must be in one frame, got {part.frame} in {part.column!r} and {other.frame} in {other.column!r}; "
            "state their frames, or name the columns that belong together"
        )
    frame = convention.frame or part.frame
    if convention.frame is not None and part.frame is None:
        raise MissingFact(
            part.column, "frame", f"changes in the frame {convention.frame!r} were asked for; leave the convention's frame out to take them as recorded"
        )
    if frame != part.frame and TOOL not in (frame, part.frame):
        raise UsageError(
            f"column {part.column!r}: must be in the frame {frame!r} that was asked for, got {part.frame!r}; how the two lie to each other is not known"
        )
    columns = tuple((column.name, column.dtype, column.shape) for column in chosen)
    view = ActionView(action, Pose(None, None, None), convention, frame, columns)
    return ActionView(action, _state_of(known, view, state), convention, frame, columns)


def _action_columns(known: Mapping[str, Column]) -> list[Column]:
    """Return the action columns that hold a pose of the hand, its change, or a gripper alone; all of them where none holds a pose."""
    named = [column for column in known.values() if column.meaning == "action" and column.kind == "numeric"]
    hands = [column for column in named if moves_hand(column)]
    alone = [column for column in named if (space := column.action_space) is not None and space.kind == "other" and space.gripper is not None]
    return [*hands, *alone] if hands else named


def _state_of(known: Mapping[str, Column], view: ActionView, names: Sequence[str] | None) -> Pose:
    """Return the parts of the state that a view needs; raise MissingFact or UsageError where they are not there."""
    listed = [known[name] for name in names] if names is not None else [column for column in known.values() if column.meaning == "state"]
    wanted = view.action.position or view.action.rotation
    relative = view.action.gripper is not None and view.action.gripper.relative
    gripper = _gripper_alone([column for column in listed if column.action_space is not None and column.action_space.gripper is not None]) if relative else None
    if not view.needs_state or wanted is None:
        return Pose(None, None, gripper)
    hands = [column for column in listed if column.action_space is not None and column.action_space.kind == "ee_pose"]
    if not hands:
        raise UsageError(
            "the state: must hold the pose of the hand, as the action is turned into or out of changes of it, got no such column; name it with state="
        )
    pose = pose_of(hands, "the state", gripper=False)
    turning = view.action.rotation is not None or view.turned
    if pose.position is None or (turning and pose.rotation is None):
        lacks = "position" if pose.position is None else "rotation"
        raise UsageError(f"the state: must hold the {lacks} of the hand, got none in {', '.join(column.name for column in hands)}")
    for part in (pose.position, pose.rotation if turning else None):
        if part is None:
            continue
        expected = wanted.frame if wanted.frame != TOOL else view.frame
        if part.frame is None or (wanted.frame is None and view.absolute):
            raise MissingFact(part.column if part.frame is None else wanted.column, "frame", "pose and action must be in the same frame")
        if part.frame != expected:
            raise UsageError(f"column {part.column!r}: must be in the action's frame {expected!r}, got {part.frame!r}")
    return Pose(pose.position, pose.rotation if turning else None, gripper)


def _gripper_alone(holders: Sequence[Column]) -> GripperPart | None:
    """Return the gripper of the one column that holds one beside other entries; None where none or several do."""
    if len(holders) != 1 or holders[0].action_space is None or holders[0].action_space.gripper is None:
        return None
    gripper = holders[0].action_space.gripper
    return GripperPart(holders[0].name, gripper.dimension, gripper.closed, gripper.open, relative=False)


__all__ = ["ActionView", "Convention", "StandardActions", "action_view"]
