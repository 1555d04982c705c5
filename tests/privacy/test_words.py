"""Keys, texts and names under the built-in rules and a user's own."""

from __future__ import annotations

import pytest

from dataengine.core.config import parse_config
from dataengine.core.errors import ConfigError, UnknownName
from dataengine.privacy.config import PrivacyConfig, RulesConfig, ScrubRule
from dataengine.privacy.rules import snake
from dataengine.privacy.words import Words

PERSONAL = [
    (
        "people",
        ["operator", "user_id", "collector", "annotatorName", "recorded_by", "Author", "email", "participant_id", "lastName", "created_by", "teleoperator"],
    ),
    ("serials", ["robot_serial_number", "wrist_cam_serial", "cameraSerialNumber", "Serial", "device_id", "SN", "imei"]),
    ("location", ["latitude", "GPSLatitude", "gps", "lon", "location", "building", "com.apple.quicktime.location.ISO6709", "©xyz", "altitude"]),
    ("machines", ["hostname", "mac_address", "computerName", "ip"]),
]
HARMLESS = [
    "task",
    "success",
    "rate_hz",
    "robot",
    "camera",
    "gripper",
    "position",
    "translation",
    "episode_id",
    "latency_ms",
    "long_horizon",
    "userful",
    "platform",
    "description",
]


@pytest.mark.parametrize(("rule", "keys"), PERSONAL)
def test_keys_that_name_somebody_or_something(rule: str, keys: list[str]) -> None:
    words = Words(RulesConfig())
    for key in keys:
        found = words.rule_of_key(key)
        assert found is not None, key
        assert found.name == rule or key == "email", (key, found.name)


def test_other_keys_stay() -> None:
    words = Words(RulesConfig())
    assert [key for key in HARMLESS if words.rule_of_key(key) is not None] == []


def test_key_forms() -> None:
    assert {snake(key) for key in ("robotSerialNumber", "Robot Serial-Number", "robot.serial_number", "ROBOT_SERIAL_NUMBER")} == {"robot_serial_number"}
    assert snake("GPSLatitude") == "gps_latitude"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to a.b+c@lab.example.org today", "write to [contacts] today"),
        ("call +49 30 901820-417.", "call [contacts]."),
        ("call (555) 234-5678 now", "call [contacts] now"),
        ("at 52.516374, 13.377704 outside", "at [location] outside"),
        ("/home/alice/data/x.mcap", "/home/[machines]/data/x.mcap"),
        ("C:\\Users\\Bob\\x", "C:\\Users\\[machines]\\x"),
        ("00:1b:44:11:3a:b7 up", "[machines] up"),
        ("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9", "[location]"),
        ("2023-07-07-10h-00m-45s", "2023-07-07-10h-00m-45s"),
        ("version 1.26.4 at 1700000000.123456", "version 1.26.4 at 1700000000.123456"),
        ("move 0.25 0.5 then 3.14159", "move 0.25 0.5 then 3.14159"),
        ("pick up 2 of 10 cups", "pick up 2 of 10 cups"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert Words(RulesConfig()).text(text, "x", sentence=True) == expected


def test_a_value_under_a_key_is_gone_everywhere() -> None:
    """DROID's way: serial numbers of cameras stand in the metadata and in the names of streams."""
    metadata = {"wrist_cam_serial": "18026681", "ext1_cam_serial": 25455306, "robot_serial_number": "panda-295341-1325480", "user": "Eve Ost", "seed": 18}
    words = Words(RulesConfig())
    words.learn(metadata)
    assert words.metadata(metadata) == {
        "wrist_cam_serial": "camera_1",
        "ext1_cam_serial": "camera_2",
        "robot_serial_number": "device_1",
        "user": "person_1",
        "seed": 18,
    }
    assert words.name("observation.camera_extrinsics.18026681_left") == "observation.camera_extrinsics.camera_1_left"
    assert words.name("observation.camera_extrinsics.25455306_right") == "observation.camera_extrinsics.camera_2_right"
    assert words.text("Eve Ost moved eve osten aside", "tasks", sentence=True) == "person_1 moved eve osten aside"
    assert words.metadata({"files": {"18026681.mp4": 1}, "of": 25455306}) == {"files": {"camera_1.mp4": 1}, "of": "camera_2"}


def test_serials_that_only_names_of_streams_hold() -> None:
    words = Words(RulesConfig())
    words.learn_names(["observation.images.23404442_left", "observation.images.16291792_left", "action"])
    assert words.name("observation.images.16291792_left") == "observation.images.camera_1_left"
    assert words.name("observation.images.23404442_left") == "observation.images.camera_2_left"


def test_common_words_in_sentences_are_no_secrets() -> None:
    words = Words(RulesConfig())
    words.learn({"operator": "robot", "annotator": "ab"})
    assert words.text("let the robot move ab", "tasks", sentence=True) == "let the robot move ab"
    assert words.text("runs/robot/1", "paths") == "runs/person_1/1"


def test_a_salt_gives_the_same_pseudonym_in_every_recording_and_another_salt_another() -> None:
    def pseudonym(salt: str, *before: str) -> str:
        words = Words(RulesConfig(salt=salt))
        words.learn({f"user{number}": name for number, name in enumerate(before)} | {"operator": "Eve Ost"})
        return str(words.metadata({"operator": "Eve Ost"})["operator"])

    assert pseudonym("pepper-pepper") == pseudonym("pepper-pepper", "Somebody Else") != pseudonym("saltsalt")
    assert pseudonym("saltsalt").startswith("person_")


def test_rules_of_a_user() -> None:
    own = ScrubRule(name="lab", keys=("bench",), texts=(r"room (\d+)",), streams=("badge",), action="mask")
    words = Words(RulesConfig(add=(own,), words=("Project Falke",), without=("people",), keep_keys=("serial",)))
    assert words.metadata({"bench": "B7", "operator": "Eve", "serial": "123456", "note": "room 12 of project falke"}) == {
        "bench": "[lab]",
        "operator": "Eve",
        "serial": "123456",
        "note": "room [lab] of [words]",
    }
    rule = words.rule_of_words(["hand.badge.id"])
    assert rule is not None
    assert rule.name == "lab"
    with pytest.raises(UnknownName, match="did you mean 'people'"):
        Words(RulesConfig(without=("peple",)))
    with pytest.raises(ConfigError, match="no regular expression"):
        parse_config(PrivacyConfig, {"rules": {"add": [{"name": "x", "keys": ["("]}]}}, "c.yaml")


def test_nested_metadata_json_texts_and_pairs() -> None:
    words = Words(RulesConfig())
    content = {"a": [{"key": "operator", "value": "Eve Ost"}], "args": '{"env": {"host": "lab-pc-7"}, "n": 3}', "gps": {"lat": 1.5, "fix": True}}
    words.learn(content)
    found = words.metadata(content)
    assert found == {"a": [{"key": "operator", "value": "person_1"}], "args": '{"env": {"host": "machine_1"}, "n": 3}'}
    assert words.counts["location", "metadata: gps"] == 1
    deep: object = "Eve Ost"
    for _ in range(100):
        deep = [deep]
    assert "Eve" not in repr(words.metadata(deep))


def test_what_was_found_is_counted_and_never_told() -> None:
    words = Words(RulesConfig())
    words.learn({"operator": "Eve Ost"})
    words.metadata({"operator": "Eve Ost", "note": "Eve Ost and Eve Ost"})
    assert dict(words.counts) == {("people", "metadata: operator"): 1, ("people", "metadata"): 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+47.3769+008.5432+400/", "[location]"),
        ("at +37.7749-122.4194/ then", "at [location] then"),
        ("loc=+47.37+008.54+400.000CRSWGS_84/", "loc=[location]"),
        ("[iso: 100] [latitude: 42.37] [longtitude: -71.1]", "[iso: 100] [latitude: [location]] [longtitude: [location]]"),
        ("lat=1.5, lng = -0.25", "lat=[location], lng = [location]"),
        ("latency: 12.5 ms, lateral 0.25, long 1.5 m, flat 2.5", "latency: 12.5 ms, lateral 0.25, long 1.5 m, flat 2.5"),
        ("moved +0.25-0.50 of 1", "moved +0.25-0.50 of 1"),
    ],
)
def test_places_in_texts(text: str, expected: str) -> None:
    words = Words(RulesConfig())
    assert words.text(text, "x", sentence=True) == expected
    assert words.found_in(b"\x00" + text.encode() + b"\x00") == ("location" if expected != text else None)


def test_keys_of_cameras_and_of_more_people() -> None:
    words = Words(RulesConfig())
    keys = ["GPS5", "GPSU", "GPS9", "LINF", "CINF", "MUID", "worker_id", "worker", "recorder", "driver", "pilot", "speaker", "actor", "demonstrator"]
    assert [getattr(words.rule_of_key(key), "name", "") for key in keys] == ["location"] * 3 + ["serials"] * 3 + ["people"] * 8
    assert [key for key in ("num_workers", "n_users", "max_workers", "factory_id", "gripper_width") if words.rule_of_key(key)] == []
    document = {
        "1": {"streams": {"GPS5": {"samples": [{"value": [47.37, 8.54]}]}, "ACCL": {"samples": [{"value": [1.0]}]}}},
        "settings": {"LINF": "LAJ7061816"},
    }
    counted = {"samples": {"gopro.gps5": 1990, "gopro.accl": 1990}}
    words.learn(counted)
    assert words.metadata(counted) == {"samples": {"gopro.accl": 1990}}
    assert words.metadata(document) == {"1": {"streams": {"ACCL": {"samples": [{"value": [1.0]}]}}}, "settings": {"LINF": "device_1"}}


def test_a_short_code_of_a_person_is_gone_everywhere() -> None:
    words = Words(RulesConfig())
    words.learn({"participant_id": "P01", "user_id": 3, "operator": "ab"})
    assert words.text("EPIC/P01/videos/P01_01.MP4", "keys") == "EPIC/person_1/videos/person_1_01.MP4"
    assert words.text("P01 gives P012 3 cups to ab", "tasks", sentence=True) == "person_1 gives P012 3 cups to ab"
    assert words.metadata({"video_id": "P01_01", "narration_id": "P01_01_0", "n": 3}) == {"video_id": "person_1_01", "narration_id": "person_1_01_0", "n": 3}
    assert words.found_in(b"\x04\0\0\0P01\0\x80\x81") == "people"
    assert words.found_in(b"\xf3P01\x82 or xP01x") is None
    words.learn({"worker_id": "worker_001"})
    told = "worker_001/factory001_worker001_00002.mp4 of worker_0012"
    assert words.text(told, "keys") == "person_4/factory001_person_4_00002.mp4 of worker_0012"


def test_serials_in_paths() -> None:
    """GoPro's way of UMI: the camera's serial number and the time of the recording are the folder's name."""
    words = Words(RulesConfig())
    words.learn_paths("s3://b/demos/demo_C9999999164126_2024.01.10_10.58.34.882133/raw_video.mp4: 1234567 bytes")
    assert words.text("demo_C9999999164126_2024.01.10_10.58.34.882133", "keys") == "demo_device_1_2024.01.10_10.58.34.882133"
    calm = "runs/20240110/20240110105834/1704884314/1704884314123456789/episode_00000123/clip_12/20240110_105834 of 12345678 bytes"
    words.learn_paths(calm)
    assert words.text(calm, "keys") == calm
    own = Words(RulesConfig(without=("serials",)))
    own.learn_paths("/C9999999164126/")
    assert own.text("/C9999999164126/", "keys") == "/C9999999164126/"
