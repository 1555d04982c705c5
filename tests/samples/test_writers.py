from pathlib import Path

import h5py
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from dataengine.core.errors import UnknownName
from dataengine.core.pictures import picture_header
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.bulk import write_bulk_mcap, write_bulk_rlds
from dataengine.samples.demo import write_demo
from dataengine.samples.pictures import marked_jpeg
from dataengine.samples.writers import WRITERS, writer
from tests.samples.test_rlds import _read


@pytest.fixture(scope="module")
def recordings() -> list[ArmRecording]:
    return [record(0, index, ArmConfig(64, 64, max_steps=6)) for index in (1, 2)]


@pytest.mark.parametrize("name", WRITERS)
def test_same_recordings_same_bytes(tmp_path: Path, recordings: list[ArmRecording], name: str) -> None:
    one, two = (writer(name)(tmp_path / folder, recordings) for folder in ("one", "two"))
    assert one
    assert [path.relative_to(tmp_path / "one") for path in one] == [path.relative_to(tmp_path / "two") for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_unknown_writer() -> None:
    with pytest.raises(UnknownName, match="did you mean 'robomimic'"):
        writer("robomimik")


def test_a_marked_jpeg_is_the_same_picture(recordings: list[ArmRecording]) -> None:
    import cv2
    import numpy as np

    from dataengine.samples.pictures import encode_picture

    jpeg = encode_picture(recordings[0].cameras["front"].images[0], "jpeg")
    marked = marked_jpeg(jpeg, b"7/12")
    assert marked != jpeg
    assert picture_header(marked) == picture_header(jpeg)
    assert np.array_equal(*(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (jpeg, marked)))


def test_bulk_rlds_has_distinct_episodes_of_the_size_asked_for(tmp_path: Path) -> None:
    root = write_bulk_rlds(tmp_path, episodes=30, size_bytes=3 << 20, height=64, width=64, shards=3, pool=4)
    shards = sorted(root.glob("*.tfrecord-*"))
    assert sum(shard.stat().st_size for shard in shards) >= 3 << 20
    episodes = [episode for shard in shards for episode in _read(shard)]
    assert [episode["episode_metadata/episode_id"] for episode in episodes] == [[number] for number in range(30)]
    frames = [frame for episode in episodes for key in ("image", "wrist_image") for frame in episode[f"steps/observation/{key}"]]
    assert len(set(frames)) == len(frames)
    assert all(header is not None and header.complete and header.height == 64 for header in map(picture_header, frames))
    assert len({tuple(episode["steps/action"]) for episode in episodes}) == 30


def test_bulk_mcap_has_the_rates_asked_for(tmp_path: Path) -> None:
    path = write_bulk_mcap(tmp_path / "bulk.mcap", size_bytes=4 << 20, height=96, width=96)
    assert path.stat().st_size >= 4 << 20
    counts, frames, stamps = dict[str, int](), list[bytes](), dict[str, list[int]]()
    with path.open("rb") as file:
        for _, channel, message, value in make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()]).iter_decoded_messages():
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
            assert value.header.stamp.sec * 1_000_000_000 + value.header.stamp.nanosec == message.publish_time
            stamps.setdefault(channel.topic, []).append(message.publish_time)
            if channel.topic.endswith("compressed"):
                frames.append(bytes(value.data))
            elif channel.topic == "/joint_states":
                assert list(value.name)[-1] == "gripper"
                assert len(value.position) == len(value.effort) == 5
            else:
                assert 0.9 < sum(getattr(value.orientation, axis) ** 2 for axis in "xyzw") < 1.1
    seconds = counts["/joint_states"] // 200
    assert counts == {
        "/joint_states": 200 * seconds,
        "/imu/data": 200 * seconds,
        "/camera/front/image/compressed": 30 * seconds,
        "/camera/wrist/image/compressed": 30 * seconds,
    }
    assert len(set(frames)) == len(frames)
    assert all(len(set(times)) == len(times) for times in stamps.values())


def test_demo(tmp_path: Path) -> None:
    demo = write_demo(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 22_000_000
    assert set(demo.recordings) == {path.name for path in tmp_path.iterdir()}
    assert len(list((tmp_path / "arm-films").glob("*.mp4"))) == demo.recordings["arm-films"]
    assert len(list((tmp_path / "aloha-block").iterdir())) == demo.recordings["aloha-block"]
    with pytest.raises(OSError, match="truncated"):
        h5py.File(demo.broken[0])
    episodes = [(shard.name.split(".")[0], episode) for shard in sorted(tmp_path.glob("rlds/*/*/*.tfrecord-*")) for episode in _read(shard)]
    assert len(episodes) == demo.recordings["rlds"]
    assert len({episode["episode_metadata/episode_id"][0] for _, episode in episodes}) == demo.recordings["rlds"] - demo.leaked
