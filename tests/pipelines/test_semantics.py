"""What a job says of the meaning of a dataset: once where nothing says it, once where the description disagrees; and the list of known datasets."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from dataengine.samples.rlds import RldsOptions, write_rlds
from dataengine.samples.robomimic import write_robomimic
from dataengine.samples.video import write_video
from dataengine.schema.descriptions import descriptions
from dataengine.store.store import open_store
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, Report, run
from pipelines.runtime import Runtime
from tests.support.jobs import command, dataengine, tiny
from tests.support.shared import REPOSITORY

NOTICES = ("unknown_semantics", "description_differs")


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Return the report of one job, with a unit for each file so that several units see one dataset, and its store."""
    folder = tmp_path_factory.mktemp("semantics")
    write_rlds(folder / "in", {"train": [tiny(0), tiny(1)], "val": [tiny(2)]}, RldsOptions(name="kitchen", shards=2))
    write_rlds(folder / "in", {"train": [tiny(3)]}, RldsOptions(name="sample_arm"))
    write_rlds(folder / "in", {"train": [tiny(4), tiny(5)]}, RldsOptions(name="bridge_dataset", shards=2))  # it is not
    write_video(folder / "in" / "films", [tiny(6)])
    write_robomimic(folder / "in" / "demos" / "demos.hdf5", [tiny(7)])  # without the settings of a controller
    config = IngestConfig.model_validate({"units": {"recordings": 1}})
    report = run(IngestJob((str(folder / "in"),), str(folder / "store"), config=config), Runtime(local=True, workers=1))
    return report, folder / "store"


def test_each_dataset_is_noticed_once_and_only_where_there_is_something_to_say(landed: tuple[Report, Path]) -> None:
    report, _ = landed
    assert (report.landed, report.rejected, report.exit_code) == (9, 0, 0)
    assert report.units > len(report.datasets)
    found = sorted((one["check"], one["severity"], one["where"]) for one in report.problems if one["check"] in NOTICES)
    assert found == [
        ("description_differs", "warning", "action"),
        ("description_differs", "warning", "observation.state"),
        ("unknown_semantics", "warning", "in"),  # the demonstrations, named by their folder
        ("unknown_semantics", "warning", "kitchen"),
    ]
    (differs,) = [one for one in report.problems if one["where"] == "action"]
    assert (differs["expected"], differs["found"]) == ("7 entries (x, y, z, roll, pitch, yaw, gripper)", "shape (5,)")


def test_a_notice_about_a_dataset_flags_no_episode(landed: tuple[Report, Path]) -> None:
    _, path = landed
    store = open_store(str(path))
    rows = store.episodes().collect()
    described = rows.filter(rows["dataset"].is_in(["kitchen", "bridge_dataset"]))
    assert described["flags"].to_list() == [[]] * 5
    checked = dataengine("check", f"{path}#kitchen", "--json")
    assert (checked.code, checked.json["problems"]) == (0, [])


def test_a_set_without_a_description_keeps_the_names_of_the_file(landed: tuple[Report, Path]) -> None:
    _, path = landed
    store = open_store(f"{path}#kitchen")
    specs = store.read_trajectory(store.episodes().collect()["episode_id"][0]).specs
    assert (specs["action"].action_space, specs["action"].dims) == (None, None)
    assert specs["action_dict.joint_position"].extra["source"] == "steps/action_dict/joint_position"
    known = open_store(f"{path}#sample_arm")
    specs = known.read_trajectory(known.episodes().collect()["episode_id"][0]).specs
    assert specs["action"].dims == ("shoulder", "elbow", "wrist", "lift", "gripper")


def test_the_known_datasets_as_json_say_where_each_fact_is_published() -> None:
    listed = {entry["name"]: entry for entry in dataengine("sources", "--datasets", "--json").json}
    assert sorted(listed) == sorted(descriptions())
    fractal = listed["fractal20220817_data"]
    assert (fractal["rate_hz"], fractal["embodiment"], fractal["licence"]) == (3.0, "google_robot", "CC-BY-4.0")
    assert fractal["citations"]["columns.action.rotation_delta.frame"] == "https://www.tensorflow.org/datasets/catalog/fractal20220817_data"
    assert "octo" in fractal["citations"]["columns.action.gripper_closedness_action.action_space.gripper"]
    assert all(defect["what"] and defect["cite"] for defect in fractal["defects"])


def test_the_known_datasets_in_a_pipe_are_one_name_a_line() -> None:
    done = dataengine("sources", "--datasets")
    names = {line.split()[0] for line in done.out.splitlines() if line and not line.startswith(" ")}
    assert set(descriptions()) <= names
    (row,) = [line for line in done.out.splitlines() if line.startswith("fractal20220817_data ")]
    assert row.split()[1:] == ["3", "google_robot", "CC-BY-4.0", "ee_delta,", "rpy,", "gripper", "3"]
    (row,) = [line for line in done.out.splitlines() if line.startswith("stanford_mask_vit_converted_externally_to_rlds ")]
    assert row.split()[1:] == ["sawyer", "ee_delta,", "rpy,", "gripper", "1"]  # no rate, no licence


@pytest.mark.parametrize("columns", [100, 160])
def test_the_known_datasets_fit_a_terminal(columns: int) -> None:
    terminal, inside = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "dumb", "NO_COLOR": "1"}
    process = subprocess.Popen(command("sources", "--datasets"), cwd=REPOSITORY, env=environment, stdout=inside, stderr=inside, stdin=subprocess.DEVNULL)
    os.close(inside)
    read = bytearray()
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        read += part
    os.close(terminal)
    assert process.wait(60) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", read.decode()).splitlines()
    assert max(len(line) for line in lines[:-1]) <= columns
    words = "".join(line[:37].strip() for line in lines) if columns == 100 else "".join(lines)
    assert "utokyo_pr2_tabletop_manipulation_converted_externally_to_rlds" in words  # the longest name, whole across its lines
