"""The columns that labels of actions stand in: the command as it was recorded, and the change of the state."""

from __future__ import annotations

from dataclasses import replace

from dataengine.core.action_spec import ActionSpec
from dataengine.core.column import ActionSource, Column, RotationKind
from dataengine.core.displacement import Displacement

# One rotation has several names; a model says this one, whichever was recorded.
WRITTEN: dict[RotationKind, str] = {
    "quat_xyzw": "quaternions with w >= 0",
    "quat_wxyz": "quaternions with w >= 0",
    "rotvec": "rotation vectors of at most half a turn",
    "rpy": "pitch within a quarter of a turn, roll and yaw within half a one",
}


def command_column(action: Column, spec: ActionSpec, source: ActionSource, by: str) -> Column:
    """Return the column of labels of a command, given that of the actions that were recorded; `by` says who labels."""
    kinds = dict.fromkeys(WRITTEN[part.rotation] for part in spec.of_kind("rotation") if part.rotation in WRITTEN)
    doc = f"{action.doc} ({'; '.join([by, *kinds])})".strip()
    return replace(action, dtype="float32", meaning="action", action_source=source, align=None, doc=doc)


def displacement_column(state: Column, moved: Displacement, gap_s: float, source: ActionSource, by: str) -> Column:
    """Return the column of labels of a displacement over a gap, given that of the states that were recorded; `by` says who labels."""
    doc = f"change of {state.name} until {gap_s:g} s later, rotations as rotation vectors in rad in the state's frame ({by})"
    width = len(moved.dims)
    return Column(moved.name, dtype="float32", shape=(width,), dims=moved.dims, unit=moved.unit(state.unit), frame=state.frame, action_source=source, doc=doc)
