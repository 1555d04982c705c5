import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.config import parse_config
from dataengine.core.errors import ConfigError
from dataengine.video.decode import FrameReader
from dataengine.video.encode import SEGMENT_FRAMES, EncodeConfig, VideoWriter
from dataengine.video.fidelity import FidelityLost, gate
from dataengine.video.index import FrameIndex
from tests.support.films import number_of, numbered
from tests.video.test_fidelity import REAL, real_frames

STEP_NS = 33_366_700


def stamps(count: int, start_ns: int = 0) -> Any:
    return start_ns + np.arange(count, dtype=np.int64) * STEP_NS


def written(writer: VideoWriter) -> FrameIndex:
    index = writer.close()
    assert index is not None
    return index


def read(path: Path, index: FrameIndex, rows: Any) -> Any:
    with FrameReader(path, index) as reader:
        return reader.read(rows)


def test_episodes_follow_each_other_and_an_abandoned_one_leaves_nothing(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.begin()
    writer.add(numbered(13), stamps(13, start_ns=10**18))
    first = writer.commit()
    writer.begin()
    writer.add(numbered(77, first=500), stamps(77))
    writer.abandon()
    writer.begin()
    writer.add(numbered(7, first=200), stamps(7))
    second = writer.commit()
    index = written(writer)
    assert (first.first, first.count, second.first, second.count, len(index)) == (0, 13, 13, 7, 20)
    assert [number_of(frame) for frame in read(tmp_path / "a.mp4", index, range(20))] == [*range(13), *range(200, 207)]
    # A key frame every 5, and at the start of each episode.
    assert np.flatnonzero(index.key).tolist() == [0, 5, 10, 13, 18]
    assert index.order.tolist() == list(range(20))
    assert first.bytes + second.bytes == index.size.sum()


def test_times_are_the_true_ones_in_whole_us(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.begin()
    times = np.array([5_000, 33_371_700, 33_371_700, 33_000_000, 80_005_000, 1_280_005_000], dtype=np.int64) + 10**18
    writer.add(numbered(6), times)
    writer.commit()
    writer.begin()
    writer.add(numbered(2), np.array([0, 50_000_999]))
    writer.commit()
    us = written(writer).pts_ns // 1000
    # 33_366.7 us becomes 33_366; the equal and the fallen time move on by 1; the second episode starts one usual step (46_632) after the first ends.
    assert us[:6].tolist() == [0, 33_366, 33_367, 33_368, 80_000, 1_280_000]
    assert us[7] - us[6] == 50_000
    assert us[6] - us[5] == int(np.median([33_366, 1, 1, 46_632, 1_200_000]))


def test_a_gap_of_days_does_not_break_the_file(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.begin()
    day_ns = 86_400 * 10**9
    writer.add(numbered(4), np.array([0, 10**9, 5 * day_ns, 5 * day_ns + 10**9]))
    writer.commit()
    assert written(writer).pts_ns.tolist() == [0, 10**9, 1801 * 10**9, 1802 * 10**9]


@pytest.mark.parametrize("size", [(64, 96), (63, 97), (63, 96), (33, 31), (2, 2), (1, 1), (16, 400)])
def test_every_size_comes_back_as_it_was(tmp_path, size: tuple[int, int]) -> None:
    frames = numbered(12, *size) if min(size) > 12 else np.full((12, *size, 3), 90, np.uint8)
    writer = VideoWriter(tmp_path / "a.mp4", size[1], size[0])
    writer.begin()
    writer.add(frames, stamps(12))
    episode = writer.commit()
    index = written(writer)
    decoded = read(tmp_path / "a.mp4", index, range(12))
    assert decoded.shape == frames.shape
    assert gate(frames, decoded).kept
    assert episode.worst.kept
    assert np.abs(decoded.astype(int) - frames).mean() < 6


@pytest.mark.parametrize("cuts", [[150], [1] * 30 + [120], [59, 2, 60, 29]])
def test_bytes_do_not_depend_on_how_frames_arrive(tmp_path, cuts: list[int]) -> None:
    frames, digests = numbered(150, 72, 96), []
    for name, parts in (("whole.mp4", [150]), ("cut.mp4", cuts)):
        writer, at = VideoWriter(tmp_path / name, 96, 72), 0
        writer.begin()
        for count in parts:
            writer.add(frames[at : at + count], stamps(150)[at : at + count])
            at += count
        writer.commit()
        written(writer)
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_any_tool_plays_it_with_the_colours_that_we_read(tmp_path) -> None:
    import av

    frames = numbered(8)
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.begin()
    writer.add(frames, stamps(8))
    writer.commit()
    index = written(writer)
    assert (index.facts["matrix"], index.facts["range"], index.facts["pix_fmt"]) == ("smpte170m", "limited", "yuv420p")
    with av.open(str(tmp_path / "a.mp4")) as container:
        theirs = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    ours = read(tmp_path / "a.mp4", index, range(8))
    assert np.abs(theirs.astype(int) - ours).max() <= 3
    assert np.abs(ours.astype(int) - frames).mean() < 4


def test_one_group_of_pictures_decodes_from_its_byte_range_alone(tmp_path) -> None:
    import base64

    from dataengine.video.decoders import decoder_for, padded_packet

    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.begin()
    writer.add(numbered(20), stamps(20))
    writer.commit()
    index = written(writer)
    data = (tmp_path / "a.mp4").read_bytes()
    decoder = decoder_for("h264", base64.b64decode(index.facts["extradata"]))
    shown = []
    for row in range(10, 15):
        offset, size = int(index.offset[row]), int(index.size[row])
        shown += [frame.pts for frame in decoder.decode(padded_packet(data[offset : offset + size], row))]
    assert shown + [frame.pts for frame in decoder.decode(None)] == [10, 11, 12, 13, 14]
    assert index.offset[14] + index.size[14] - index.offset[10] == index.size[10:15].sum()


def hard_frames(count: int = 70) -> Any:
    """Return frames of which one, 65, holds colour detail that 4:2:0 at the default quality does not keep."""
    frames = numbered(count, 64, 96)
    noise = np.random.default_rng(1).integers(0, 256, (40, 96, 1))
    frames[65, :40] = np.where(noise > 127, 250, 5)
    return frames


def test_a_segment_that_loses_something_is_encoded_better_and_only_that_one(tmp_path) -> None:
    frames = hard_frames()
    sizes = {}
    for name, config in (("plain", EncodeConfig(gate=False, crf=40)), ("gated", EncodeConfig(crf=40, crf_steps=(30, 20, 12, 6)))):
        writer = VideoWriter(tmp_path / f"{name}.mp4", 96, 64, config)
        writer.begin()
        writer.add(frames, stamps(70))
        episode = writer.commit()
        index = written(writer)
        sizes[name] = index.size
        verdict = gate(frames, read(tmp_path / f"{name}.mp4", index, range(70)))
        assert verdict.kept is (name == "gated")
        assert (episode.raised > 0) is (name == "gated")
        if name == "gated":
            assert episode.worst.kept
            assert episode.worst.score > 0
    assert sizes["gated"].sum() > sizes["plain"].sum()


@pytest.mark.parametrize("on_loss", ["lossless", "reject"])
def test_without_another_quality_the_loss_is_raised_at_once_and_abandoning_saves_the_rest(tmp_path, on_loss: Any) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64, EncodeConfig(crf=40, on_loss=on_loss), where="episode 3: observation.images.top")
    easy = np.full((10, 64, 96, 3), 120, np.uint8)
    writer.begin()
    writer.add(easy, stamps(10))
    writer.commit()
    writer.begin()
    with pytest.raises(
        FidelityLost, match=r"^episode 3: observation\.images\.top: frame \d+: expected every 8x8 px block within .* with CRF 40; store"
    ) as caught:
        writer.add(hard_frames()[10:], stamps(60))
    assert caught.value.tried == (40,)
    writer.abandon()
    writer.begin()
    writer.add(easy, stamps(10))
    assert writer.commit().first == 10
    assert len(written(writer)) == 20


def test_settling_verifies_what_waits_for_a_full_segment(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64, EncodeConfig(crf=45, on_loss="reject"))
    writer.begin()
    writer.add(hard_frames()[60:], stamps(10))
    with pytest.raises(FidelityLost):
        writer.settle()
    writer.abandon()
    writer.begin()
    writer.add(np.full((7, 64, 96, 3), 120, np.uint8), stamps(7))
    writer.settle()
    assert writer.commit().count == 7
    assert len(written(writer)) == 7


def test_a_ladder_that_ends_is_a_loss(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64, EncodeConfig(crf=45, crf_steps=(44,)))
    writer.begin()
    with pytest.raises(FidelityLost) as caught:
        writer.add(hard_frames()[10:], stamps(60))
    assert caught.value.tried == (45, 44)


def test_nothing_committed_is_no_file(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.begin()
    writer.add(numbered(3), stamps(3))
    assert writer.close() is None
    assert not (tmp_path / "a.mp4").exists()


def test_memory_holds_one_segment_of_raw_frames_and_encoded_packets(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.begin()
    for start in range(0, 300, 25):
        writer.add(numbered(25, first=start), stamps(25, start * STEP_NS))
        assert writer._running is not None
        assert len(writer._running.planes) < SEGMENT_FRAMES
    assert writer.commit().count == 300
    written(writer)


def test_wrong_calls_are_refused(tmp_path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    with pytest.raises(ValueError, match="begin"):
        writer.add(numbered(1), stamps(1))
    writer.begin()
    with pytest.raises(ValueError, match="neither committed nor abandoned"):
        writer.begin()
    with pytest.raises(ValueError, match=r"must be \(n, 64, 96, 3\) uint8"):
        writer.add(numbered(1, 63, 96), stamps(1))
    with pytest.raises(ValueError, match="frames of 70000x64"):
        VideoWriter(tmp_path / "b.mp4", 70_000, 64)
    with pytest.raises(ConfigError, match="unknown key 'crff', did you mean 'crf'"):
        parse_config(EncodeConfig, {"crff": 3}, "video.yaml")
    assert parse_config(EncodeConfig, {"crf": 18, "crf_steps": [20, 10]}, "video.yaml").ladder == (18, 10)


@pytest.mark.parametrize("name", REAL)
def test_real_frames_are_kept_at_the_default_quality(tmp_path, name: str) -> None:
    frames = real_frames(name, 60)
    writer = VideoWriter(tmp_path / "a.mp4", frames.shape[2], frames.shape[1])
    writer.begin()
    writer.add(frames, stamps(len(frames)))
    episode = writer.commit()
    decoded = read(tmp_path / "a.mp4", written(writer), range(len(frames)))
    error = np.mean((decoded.astype(float) - frames) ** 2)
    assert episode.raised == 0
    assert episode.worst.kept
    assert gate(frames, decoded).kept
    assert 10 * np.log10(255**2 / error) > 34
