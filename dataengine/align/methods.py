"""Which way a column is taken to the control clock, by what it means.

| column | way | why |
|---|---|---|
| camera, text, message | previous | a picture not yet taken must not be seen at a step |
| action | commanded | the command after `observation[t]` and before `observation[t+1]`, else the one in force |
| bool, integer, flags, reward, language | previous | nothing lies between two of them |
| float state whose rotation is a quaternion | slerp | linear mixing of quaternions is no rotation |
| float state with any other rotation | previous | angles wrap, matrices leave the group |
| other float state | linear | a physical quantity has a value in between |
| other floats | previous | nobody said that they are continuous |

`AlignConfig.methods` goes first, then `Column.align`, then this table.
"""

from __future__ import annotations

from typing import get_args

from dataengine.align.config import AlignConfig, Method
from dataengine.core.column import Column
from dataengine.core.errors import ConfigError

_ANY_ROWS = frozenset({"previous", "nearest"})
_QUATERNIONS = frozenset({"quat_xyzw", "quat_wxyz"})


def quaternion_at(column: Column) -> int | None:
    """Return the first dimension of a pose's quaternion, None where it cannot be told.

    Named dimensions decide (four in a row that end in the letters of the quaternion); else four numbers are a quaternion, and in seven
    or more of an end effector's pose it follows the position.
    """
    if len(column.shape) != 1 or column.shape[0] is None:
        return None
    letters = "wxyz" if scalar_first(column) else "xyzw"
    if column.dims is not None:
        names = [name.lower() for name in column.dims]
        for first in range(len(names) - 3):
            four = names[first : first + 4]
            stems = {name[:-1] for name in four}
            if "".join(name[-1:] for name in four) == letters and len(stems) == 1:
                return first
    if column.shape[0] == 4:
        return 0
    is_pose = column.action_space is not None and column.action_space.kind == "ee_pose"
    return 3 if is_pose and column.shape[0] >= 7 else None


def scalar_first(column: Column) -> bool:
    """Return whether the column's quaternion is stored as (w, x, y, z)."""
    return column.action_space is not None and column.action_space.rotation == "quat_wxyz"


def _by_meaning(column: Column, is_float: bool) -> Method:
    if column.meaning == "action":
        return "commanded"
    if not is_float or column.meaning != "state":
        return "previous"
    rotation = column.action_space.rotation if column.action_space is not None else None
    if rotation is None:
        return "linear"
    return "slerp" if rotation in _QUATERNIONS and quaternion_at(column) is not None else "previous"


def method_of(column: Column, is_float: bool, is_array: bool, config: AlignConfig) -> Method:
    """Return how a column is taken.

    Args:
        column: the column.
        is_float: whether its values are floats.
        is_array: whether it has values at all; of pictures and texts only a row can be named.
        config: the user's choices.

    Raises:
        ConfigError: the chosen way is impossible for such values.
    """
    asked = config.methods.get(column.name) or column.align
    if asked is None:
        return _by_meaning(column, is_float) if is_array else "previous"
    if not is_array and asked not in _ANY_ROWS:
        raise ConfigError(f"methods: column {column.name!r} of kind {column.kind} can be aligned as previous or nearest, got {asked!r}")
    if asked in ("linear", "slerp") and not is_float:
        ways = ", ".join(way for way in get_args(Method) if way not in ("linear", "slerp"))
        raise ConfigError(f"methods: column {column.name!r} of dtype {column.dtype} cannot be interpolated, got {asked!r}; use one of {ways}")
    if asked == "slerp" and quaternion_at(column) is None:
        raise ConfigError(f"methods: column {column.name!r} of shape {column.shape} has no quaternion for slerp; name its dimensions (qx, qy, qz, qw)")
    return asked
