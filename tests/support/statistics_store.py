"""A store of a few episodes whose statistics can be worked out by hand; `python -m tests.support.statistics_store` writes its documents as examples of the format."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.core.episode import EpisodeInfo
from dataengine.core.names import data_folder
from dataengine.core.objects import Objects
from dataengine.core.stream import Rows
from dataengine.store.store import Store
from dataengine.transforms.horizon import Horizon
from dataengine.versions.statistics import dataset_statistics
from tests.support.units import Ingested, SourceItem, ingest, new_store, times_ns

SPACE = ActionSpace("joint_position", absolute=True, gripper=Gripper(1, 0.0, 1.0))
COLUMNS = {
    "action": Column("action", dtype="float32", shape=(2,), dims=("joint", "gripper"), meaning="action", action_space=SPACE),
    "observation.state": Column("observation.state", dtype="float32", shape=(2,), dims=("joint", "gripper"), meaning="state"),
}
EXAMPLES = data_folder("schemas") / "v1" / "examples" / "valid"
HORIZON = Horizon(2, "state")


def item(
    name: str,
    action: Sequence[Sequence[float]],
    state: Sequence[Sequence[float]] | None = None,
    state_from: int = 0,
    embodiment: str | None = "arm",
    columns: dict[str, Column] | None = None,
) -> SourceItem:
    """Return an episode at 10 Hz with these rows; the state's first `state_from` rows are absent, and it is the action less 0.5 unless given."""
    columns = columns or COLUMNS
    rows = np.asarray(action, dtype=columns["action"].dtype)
    states = np.asarray(state if state is not None else rows - 0.5, dtype=columns["observation.state"].dtype)
    clock = times_ns(len(rows), 1000)
    info = EpisodeInfo(
        "lab",
        columns,
        "measured",
        name,
        dict.fromkeys(columns, "log"),
        1000,
        rate_hz=10.0,
        tasks=(f"reach {name}",),
        success=name != "b",
        embodiment=embodiment,
    )
    return SourceItem(name, [Rows("action", rows, {"log": clock}), Rows("observation.state", states[state_from:], {"log": clock[state_from:]}), info])


def known_items() -> list[SourceItem]:
    """Return three episodes: of "arm" with joints 0, 1, 2, 4 and 10, 20 (its first state is absent), and of "hand" with joint 7 and NaN."""
    return [
        item("a", [[0, 0], [1, 0], [2, 1], [4, 1]]),
        item("b", [[10, 1], [20, 1]], state_from=1),
        item("c", [[7, 0], [np.nan, 0]], embodiment="hand"),
    ]


def known_store(root: Path) -> tuple[Objects, Ingested]:
    """Make the store of these episodes, and return what was ingested."""
    objects = new_store(root)
    return objects, ingest(objects, known_items())


def main() -> None:
    """Write the examples."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(known_store(Path(folder))[0])
        for name, horizon in (("columns", None), ("horizon", HORIZON)):
            document = dataset_statistics(store, "lab", horizon=horizon)
            (EXAMPLES / f"statistics.{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
