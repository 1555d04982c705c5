"""Broken videos: refused with a reason, or described as they are."""

from collections import Counter
from pathlib import Path

import pytest

from tests.support.broken_films import read_film
from tests.support.child import run_over, tally
from tests.support.films import numbered, write_film
from tests.support.mutate import mutants
from tests.support.shared import shared_data

MIB = 1 << 20


def _check(path: Path, count: int, seed: int) -> None:
    data = path.read_bytes()
    moov = data.find(b"moov")
    hot = [(moov, min(len(data), moov + 2500))] if moov > 0 else []
    outcomes = run_over(
        read_film, mutants(data, count, seed, hot), file_name=path.name, preload=("av", "cv2", "dataengine.video.decode"), memory_bytes=256 * MIB
    )
    counts = Counter(outcome.status for outcome in outcomes)
    assert set(counts) == {"ok", "rejected"}, tally(outcomes)
    assert all(": expected " in outcome.detail for outcome in outcomes if outcome.status == "rejected")
    assert max(outcome.seconds for outcome in outcomes) < 5


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_no_damage_goes_unseen_or_kills(tmp_path: Path, name: str) -> None:
    _check(write_film(tmp_path / name, numbered(40), b_frames=2), 96, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"b_frames": 2}),
        ("a.mkv", {"b_frames": 2}),
        ("fragments.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
        ("sound.mp4", {"sound": True}),
    ],
)
def test_a_thousand_damaged_files_of_each_kind(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    _check(write_film(tmp_path / name, numbered(40), **options), 1000, seed=11)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conformance/torchcodec_video/h265_video.mp4", "conformance/torchcodec_video/av1_video.mkv"])
def test_damaged_real_files(name: str) -> None:
    _check(shared_data(name), 1000, seed=13)
